-- Mark the running jobs whose builder went silent as lost, with the log as far as it came.
--
-- A lost job ends with its last sign of life. A job whose row is locked is left alone: it is being written.
-- A repeated sweep marks no more, and gives the jobs that it has marked. Run job/lock_sweep before.
--
-- sweep: uuid of this act of sweeping
-- silent_for: how long without a sign of life, by the database's clock
-- endpoint: only those on this endpoint; its builder knows how often it gives a sign of life
-- job: only this one
-- limit: at most this many in one go

WITH silent AS (
    SELECT j.uuid
    FROM job AS j
    WHERE
        j.state = 'running'
        AND j.heartbeat_at < now() - :'silent_for'::interval
        AND NOT EXISTS (SELECT 1 FROM job AS d WHERE d.swept_by = :'sweep'::uuid)
\if :{?job}
        AND j.uuid = :'job'::uuid
\endif
\if :{?endpoint}
        AND j.endpoint_id = (SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text)
\endif
    ORDER BY j.started_at, j.uuid
    LIMIT :limit
    FOR NO KEY UPDATE SKIP LOCKED
),

size AS (
    SELECT
        c.job_uuid,
        sum(octet_length(c.chunk)) AS octets
    FROM job_log_chunk AS c
    WHERE c.job_uuid IN (SELECT silent.uuid FROM silent)
    GROUP BY c.job_uuid
),

folded AS (
    DELETE FROM job_log_chunk AS c
    USING size
    -- A text holds 1 GB at most. A log over half of it stays in its chunks.
    WHERE c.job_uuid = size.job_uuid AND size.octets <= 536870912
    RETURNING c.job_uuid, c.seq, c.chunk
),

log AS (
    SELECT
        f.job_uuid,
        string_agg(f.chunk, '' ORDER BY f.seq) AS text,
        array_agg(char_length(f.chunk) ORDER BY f.seq) AS pieces
    FROM folded AS f
    GROUP BY f.job_uuid
),

lost AS (
    UPDATE job AS j
    SET
        state = 'lost',
        finished_at = greatest(j.started_at, j.heartbeat_at),
        log = coalesce((SELECT l.text FROM log AS l WHERE l.job_uuid = j.uuid), ''),
        log_pieces = (SELECT l.pieces FROM log AS l WHERE l.job_uuid = j.uuid),
        log_size = coalesce((SELECT size.octets FROM size WHERE size.job_uuid = j.uuid), 0),
        swept_by = :'sweep'::uuid
    FROM silent
    WHERE j.uuid = silent.uuid
    RETURNING j.uuid, j.started_at
)

SELECT m.uuid
FROM (
    SELECT
        l.uuid,
        l.started_at
    FROM lost AS l
    UNION ALL
    -- As it was before this statement: none that it marks itself.
    SELECT
        j.uuid,
        j.started_at
    FROM job AS j
    WHERE j.swept_by = :'sweep'::uuid
) AS m
ORDER BY m.started_at, m.uuid;
