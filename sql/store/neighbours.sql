-- Which uuids of the store come just before and after each of these?
--
-- As many digits as tell a uuid from these two tell it from all others.
--
-- uuids: those that are asked about

SELECT
    u.uuid,
    greatest(
        (SELECT j.uuid FROM job AS j WHERE j.uuid < u.uuid ORDER BY j.uuid DESC LIMIT 1),
        (SELECT s.uuid FROM submit AS s WHERE s.uuid < u.uuid ORDER BY s.uuid DESC LIMIT 1),
        (SELECT a.uuid FROM artifact AS a WHERE a.uuid < u.uuid ORDER BY a.uuid DESC LIMIT 1),
        (SELECT r.uuid FROM release AS r WHERE r.uuid < u.uuid ORDER BY r.uuid DESC LIMIT 1)
    ) AS before,
    least(
        (SELECT j.uuid FROM job AS j WHERE j.uuid > u.uuid ORDER BY j.uuid LIMIT 1),
        (SELECT s.uuid FROM submit AS s WHERE s.uuid > u.uuid ORDER BY s.uuid LIMIT 1),
        (SELECT a.uuid FROM artifact AS a WHERE a.uuid > u.uuid ORDER BY a.uuid LIMIT 1),
        (SELECT r.uuid FROM release AS r WHERE r.uuid > u.uuid ORDER BY r.uuid LIMIT 1)
    ) AS after
FROM unnest(:'uuids'::uuid[]) AS u (uuid)
ORDER BY u.uuid;
