-- On which endpoints do jobs run whose builder gave no sign of life for long?
--
-- Reads the running jobs, by the index job_state_started_at_idx.
-- 0.1 ms with 100,000 jobs of bench/generate.py.
--
-- seconds: how long a builder may be silent; 3600 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?seconds}
            :'seconds'::bigint,
\endif
            3600
        )::bigint AS seconds
)

SELECT
    f.verdict,
    f.object,
    f.value,
    f."limit",
    CASE f.verdict
        WHEN 'warn'
            THEN format(
                'Where that builder is gone, end them: job.sweep(silent_for=…, endpoint=''%s'').', f.object
            )
    END AS advice,
    f.number
FROM (
    SELECT
        CASE WHEN x.endpoint IS NULL THEN 'ok' ELSE 'warn' END AS verdict,
        coalesce(x.endpoint, 'all running jobs') AS object,
        CASE
            WHEN x.endpoint IS NULL THEN 'alive'
            ELSE format('%s jobs, one silent for %s', x.jobs, date_trunc('second', now() - x.heard_at))
        END AS value,
        make_interval(secs => g.seconds)::text AS "limit",
        coalesce(date_part('epoch', now() - x.heard_at), 0) AS number
    FROM given AS g
    LEFT JOIN LATERAL (
        SELECT
            e.name AS endpoint,
            count(*) AS jobs,
            min(j.heartbeat_at) AS heard_at
        FROM job AS j
        JOIN endpoint AS e ON e.id = j.endpoint_id
        WHERE j.state = 'running' AND j.heartbeat_at < now() - make_interval(secs => g.seconds)
        GROUP BY e.name
    ) AS x ON TRUE
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
