-- Which records have a uuid in this range?
--
-- At most three of each kind: two show that a uuid's beginning is ambiguous.
--
-- first: the lowest uuid of the range
-- last: the highest one
-- kind {job|submit|artifact}: only records of this kind

SELECT
    t.kind,
    t.uuid
FROM (
    (
        SELECT
            'job' AS kind,
            j.uuid
        FROM job AS j
        WHERE j.uuid BETWEEN :'first'::uuid AND :'last'::uuid
        ORDER BY j.uuid
        LIMIT 3
    )
    UNION ALL
    (
        SELECT
            'submit' AS kind,
            s.uuid
        FROM submit AS s
        WHERE s.uuid BETWEEN :'first'::uuid AND :'last'::uuid
        ORDER BY s.uuid
        LIMIT 3
    )
    UNION ALL
    (
        SELECT
            'artifact' AS kind,
            a.uuid
        FROM artifact AS a
        WHERE a.uuid BETWEEN :'first'::uuid AND :'last'::uuid
        ORDER BY a.uuid
        LIMIT 3
    )
) AS t
\if :{?kind}
WHERE t.kind = :'kind'
\endif
ORDER BY t.uuid, t.kind;
