-- Which records have a uuid in this range, newest first?
--
-- What a shell offers to complete a uuid; as each kind makes version 7, the greatest is the newest.
--
-- kind {job|submit|artifact}: what kind of record
-- first: the lowest uuid of the range
-- last: the highest one
-- limit: at most this many

SELECT
    t.uuid,
    t.label
FROM (
    (
        SELECT
            j.uuid,
            p.name || ' ' || p.version || ' ' || j.state AS label
        FROM job AS j
        JOIN package AS p ON p.id = j.package_id
        WHERE
            :'kind' = 'job'
            AND j.uuid BETWEEN :'first'::uuid AND :'last'::uuid
        ORDER BY j.uuid DESC
        LIMIT :limit
    )
    UNION ALL
    (
        SELECT
            s.uuid,
            p.name || ' ' || p.version AS label
        FROM submit AS s
        JOIN package AS p ON p.id = s.requested_package_id
        WHERE
            :'kind' = 'submit'
            AND s.uuid BETWEEN :'first'::uuid AND :'last'::uuid
        ORDER BY s.uuid DESC
        LIMIT :limit
    )
    UNION ALL
    (
        SELECT
            a.uuid,
            a.path AS label
        FROM artifact AS a
        WHERE
            :'kind' = 'artifact'
            AND a.uuid BETWEEN :'first'::uuid AND :'last'::uuid
        ORDER BY a.uuid DESC
        LIMIT :limit
    )
) AS t
ORDER BY t.uuid DESC, t.label COLLATE "C";
