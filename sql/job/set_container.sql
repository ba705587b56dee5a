-- Record which container a running job got.
--
-- The row says what happened: set; repeated (it has this one); differs (it has another one);
-- no job; or the state that the job has ended in.
--
-- job: the job's uuid
-- container_hash: the container's id

WITH changed AS (
    UPDATE job
    SET
        container_hash = :'container_hash'::text,
        heartbeat_at = now()
    WHERE uuid = :'job'::uuid AND state = 'running' AND container_hash IS NULL
    RETURNING uuid
),

stored AS (
    SELECT
        j.state,
        j.container_hash
    FROM job AS j
    WHERE j.uuid = :'job'::uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM changed) THEN 'set'
        WHEN EXISTS (SELECT 1 FROM stored AS s WHERE s.container_hash = :'container_hash'::text)
            THEN 'repeated'
        WHEN EXISTS (SELECT 1 FROM stored AS s WHERE s.container_hash IS NOT NULL) THEN 'differs'
        ELSE coalesce((SELECT s.state FROM stored AS s), 'no job')
    END AS outcome;
