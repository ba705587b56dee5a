-- End a running job: its state, its time, its outputs, and its log in one piece.
--
-- The row says what happened: finished; repeated (it has ended so); differs (it has ended with
-- this state, but another time or other outputs); no job; or the other state that it has ended in.
--
-- job: the job's uuid
-- state: success, error or lost
-- finished_at: when it ended
-- outputs: the files that it made,
--   [{"uuid": "…", "path": "…", "sha256": "hexadecimal", "size": 1}], the size in bytes

WITH running AS (
    SELECT
        j.uuid,
        j.state,
        j.finished_at
    FROM job AS j
    WHERE j.uuid = :'job'::uuid
    FOR NO KEY UPDATE
),

folded AS (
    DELETE FROM job_log_chunk
    WHERE
        job_uuid = (SELECT r.uuid FROM running AS r WHERE r.state = 'running')
        -- A text holds 1 GB. A log that comes near it stays in its chunks, and job_log() reads both.
        AND (
            SELECT sum(octet_length(c.chunk))
            FROM job_log_chunk AS c
            WHERE c.job_uuid = :'job'::uuid
        ) <= 536870912
    RETURNING seq, chunk
),

finished AS (
    UPDATE job
    SET
        state = :'state'::text,
        finished_at = :'finished_at'::timestamptz,
        log = coalesce((SELECT string_agg(f.chunk, '' ORDER BY f.seq) FROM folded AS f), ''),
        log_seq = (SELECT max(f.seq) FROM folded AS f)
    WHERE uuid = (SELECT r.uuid FROM running AS r WHERE r.state = 'running')
    RETURNING uuid
),

output AS (
    SELECT
        t.uuid,
        t.path,
        decode(t.sha256, 'hex') AS sha256,
        t.size
    FROM jsonb_to_recordset(:'outputs'::jsonb) AS t (uuid uuid, path text, sha256 text, size bigint)
),

made AS (
    INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
    SELECT
        o.uuid,
        j.uuid,
        o.path,
        o.sha256,
        o.size
    FROM finished AS j
    CROSS JOIN output AS o
    RETURNING uuid, path
),

stored AS (
    SELECT
        a.uuid,
        a.path,
        a.sha256,
        a.size
    FROM artifact AS a
    WHERE a.job_uuid = :'job'::uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM finished) THEN 'finished'
        WHEN NOT EXISTS (SELECT 1 FROM running) THEN 'no job'
        WHEN NOT EXISTS (SELECT 1 FROM running AS r WHERE r.state = :'state'::text)
            THEN (SELECT r.state FROM running AS r)
        WHEN EXISTS (SELECT 1 FROM running AS r WHERE r.finished_at <> :'finished_at'::timestamptz)
            OR EXISTS (
                SELECT
                    o.path,
                    o.sha256,
                    o.size
                FROM output AS o
                EXCEPT
                SELECT
                    s.path,
                    s.sha256,
                    s.size
                FROM stored AS s
            )
            OR (SELECT count(*) FROM output) <> (SELECT count(*) FROM stored)
            THEN 'differs'
        ELSE 'repeated'
    END AS outcome,
    CASE
        WHEN EXISTS (SELECT 1 FROM finished)
            THEN ARRAY(SELECT m.uuid FROM made AS m ORDER BY m.path COLLATE "C")
        ELSE ARRAY(SELECT s.uuid FROM stored AS s ORDER BY s.path COLLATE "C")
    END AS outputs;
