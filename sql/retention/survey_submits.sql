-- What do the rules say of these submits, newest first?
--
-- Where they say that it goes, the row has the jobs that the submit reused.
--
-- before_at: go on after the submit of this time, the last row's; with `before`
-- before: its uuid
-- limit: at most so many submits

WITH walked AS MATERIALIZED (
    SELECT
        s.uuid,
        s.timestamp
    FROM submit AS s
\if :{?before_at}
    WHERE (s.timestamp, s.uuid) < (:'before_at'::timestamptz, :'before'::uuid)
\endif
    ORDER BY s.timestamp DESC, s.uuid DESC
    LIMIT :limit
),

judged AS MATERIALIZED (
    SELECT
        w.uuid,
        w.timestamp,
        v.stays
    FROM walked AS w
    JOIN retention_submit AS v ON v.submit_uuid = w.uuid
)

SELECT
    d.uuid,
    d.timestamp,
    d.stays,
    CASE
        WHEN d.stays IS NULL
            THEN ARRAY(SELECT u.job_uuid FROM reuse AS u WHERE u.submit_uuid = d.uuid ORDER BY u.job_uuid)
        ELSE '{}'
    END AS reused
FROM judged AS d
ORDER BY d.timestamp DESC, d.uuid DESC;
