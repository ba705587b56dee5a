-- Append a piece to the log of a running job; also its sign of life.
--
-- The row says what happened: appended; repeated (this piece is there, the same); differs
-- (another piece has this place); no job; or the state that the job has ended in.
--
-- job: the job's uuid
-- seq: place of the piece in the log, counted from 0
-- chunk: the piece, with what is no UTF-8 text escaped as \xHH

WITH running AS (
    -- The update also makes the end of the job wait for this piece.
    UPDATE job
    SET heartbeat_at = now()
    WHERE uuid = :'job'::uuid AND state = 'running'
    RETURNING uuid
),

appended AS (
    INSERT INTO job_log_chunk (job_uuid, seq, chunk)
    SELECT
        j.uuid,
        :'seq'::bigint,
        :'chunk'::text
    FROM running AS j
    ON CONFLICT (job_uuid, seq) DO NOTHING
    RETURNING seq
),

stored AS (
    SELECT c.chunk = :'chunk'::text AS same
    FROM job_log_chunk AS c
    WHERE c.job_uuid = :'job'::uuid AND c.seq = :'seq'::bigint
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM appended) THEN 'appended'
        WHEN EXISTS (SELECT 1 FROM stored AS s WHERE s.same) THEN 'repeated'
        WHEN EXISTS (SELECT 1 FROM stored) THEN 'differs'
        -- Appended before the job ended, and said again because the answer was lost.
        WHEN EXISTS (
            SELECT 1
            FROM job AS j
            WHERE
                j.uuid = :'job'::uuid
                AND j.log_seq >= :'seq'::bigint
                AND strpos(j.log, :'chunk'::text) > 0
        ) THEN 'repeated'
        ELSE coalesce((SELECT j.state FROM job AS j WHERE j.uuid = :'job'::uuid), 'no job')
    END AS outcome;
