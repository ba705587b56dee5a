-- Tell that the builder of a running job is alive.
--
-- The row says what happened: running; no job; or the state that the job has ended in.
--
-- job: the job's uuid

WITH running AS (
    UPDATE job
    SET heartbeat_at = now()
    WHERE uuid = :'job'::uuid AND state = 'running'
    RETURNING state
)

SELECT
    coalesce(
        (SELECT r.state FROM running AS r),
        (SELECT j.state FROM job AS j WHERE j.uuid = :'job'::uuid),
        'no job'
    ) AS outcome;
