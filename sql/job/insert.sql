-- Add a job, running or ended.
--
-- The row has its fingerprint, NULL if the content of an input is unknown. Without a row nothing was added:
-- the job is there already, or the submit, an input or a shared value is missing. job/compare tells which.
-- With besides, also where the same build is done or under way, or the content of an input is unknown, which
-- job/find_same tells.
--
-- at: the moment of this write; job/insert_outputs and job/insert_inputs find the job by it
-- submit: uuid of the submit that it is part of
-- finished_at: when it ended; without it the job is running
-- state: success, error or lost, of an ended job
-- log: the whole log of an ended job; a byte that text cannot hold is \xHH
-- reason: why it ended so; empty where nobody said
-- exit_code: of the script's process; empty where nobody said
-- measurements: what was measured, {"name": number}; {} for nothing
-- image_sha256: the digest that the image's name means; empty where it is not known
-- container_hash: the container's id; empty where it is not known yet
-- env: its whole environment, {"name": "value"}
-- inputs: the artifacts that are copied into the container, [{"job": "uuid", "artifact": "uuid"}]
-- besides: with it the build is to be done once only, by this job, unless another has done it: but for
--   these, whose results are of no use

-- Look-ups are scalar subqueries, each a probe of an index, which the server sets up faster than joins.
-- MATERIALIZED: or each would run for every place that it is used in.
WITH given AS MATERIALIZED (
    SELECT
        (SELECT s.uuid FROM submit AS s WHERE s.uuid = :'submit'::uuid) AS submit_uuid,
        (SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text) AS endpoint_id,
        (
            SELECT p.id
            FROM package AS p
            WHERE p.name = :'package'::text AND p.version = :'version'::text
        ) AS package_id,
        (SELECT i.id FROM image AS i WHERE i.name = :'image'::text) AS image_id,
        (
            SELECT n.id
            FROM environment AS n
            WHERE n.sha256 = environment_sha256(:'env'::jsonb)
        ) AS environment_id,
        environment_sha256(:'env'::jsonb) AS environment_sha256,
        -- Each empty if its content is unknown, NULL if it is not there.
        ARRAY(
            SELECT (
                SELECT coalesce(sha256sum(a.sha256, a.path), '')
                FROM artifact AS a
                WHERE a.uuid = (t.input ->> 'artifact')::uuid
            )
            -- JSON: of an array the planner counts the elements, and plans each run anew, which takes longer
            -- than the run.
            FROM jsonb_array_elements(:'inputs'::jsonb) AS t (input)
        ) AS files
)

INSERT INTO job (
\if :{?finished_at}
    finished_at, log, log_size, failure, failure_rule,
    reason, exit_code, measurements,
\endif
\if :{?besides}
    claim,
\endif
    uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,
    heartbeat_at, fingerprint, image_sha256, container_hash, script
)
SELECT
\if :{?finished_at}
    :'finished_at'::timestamptz AS finished_at,
    :'log'::text AS log,
    octet_length(:'log'::text) AS log_size,
    CASE WHEN :'state'::text = 'error' THEN failure_lines(:'log'::text) END AS failure,
    CASE WHEN :'state'::text = 'error' THEN failure_rule() END AS failure_rule,
    nullif(:'reason'::text, '') AS reason,
    nullif(:'exit_code'::text, '')::bigint AS exit_code,
    nullif(:'measurements'::jsonb, '{}') AS measurements,
\endif
\if :{?besides}
    coalesce(
        (
            -- The number of one that runs, so that the unique index refuses this one. The successes are not
            -- counted, since some may have been pruned.
            SELECT max(CASE d.state WHEN 'success' THEN d.claim + 1 ELSE d.claim END)
            FROM job AS d
            WHERE
                d.state IN ('running', 'success')
                AND d.claim IS NOT NULL
                AND d.fingerprint = k.fingerprint
        ), 0
    ) AS claim,
\endif
    :'job'::uuid AS uuid,
    g.submit_uuid,
    g.endpoint_id,
    g.package_id,
    g.image_id,
    g.environment_id,
    coalesce(
\if :{?finished_at}
        :'state'::text,
\endif
        'running'
    ) AS state,
    :'started_at'::timestamptz AS started_at,
    :'at'::timestamptz AS heartbeat_at,
    k.fingerprint,
    nullif(:'image_sha256'::bytea, '') AS image_sha256,
    nullif(:'container_hash'::text, '') AS container_hash,
    :'script'::text AS script
FROM given AS g
CROSS JOIN LATERAL (
    SELECT
        job_fingerprint(
            :'package'::text, :'version'::text, :'image'::text, nullif(:'image_sha256'::bytea, ''),
            :'script'::text, g.environment_sha256, array_replace(g.files, '', NULL)
        ) AS fingerprint
\if :{?besides}
    -- Computed once: the order keeps the planner from putting the call in each place of its use.
    ORDER BY fingerprint
\endif
) AS k
WHERE
    num_nulls(g.submit_uuid, g.endpoint_id, g.package_id, g.image_id, g.environment_id) = 0
    -- Every input is there.
    AND array_position(g.files, NULL) IS NULL
\if :{?besides}
    AND k.fingerprint IS NOT NULL
    AND (
        SELECT count(*)
        FROM job AS d
        WHERE
            d.state = 'success'
            AND d.fingerprint = k.fingerprint
            AND d.uuid <> ALL(:'besides'::uuid[])
    ) = 0
\endif
-- Its uuid, or the claim on its fingerprint: another job that has it may succeed after this statement looked.
ON CONFLICT DO NOTHING
RETURNING fingerprint;
