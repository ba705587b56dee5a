-- Which records have a uuid from here to there?
--
-- first: the first uuid that counts
-- last: the last one
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
