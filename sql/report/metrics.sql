-- How much is in the store?
--
-- In the terms of Prometheus: times and durations in seconds, sizes in bytes.

SELECT
    m.metric,
    m.labels,
    m.value::double precision,
    m.help
FROM (
    SELECT
        'butido_jobs' AS metric,
        jsonb_build_object('state', c.state) AS labels,
        -- To count ten million takes a second: above 20,000 it is what the last analyze found.
        CASE
            WHEN c.state = 'running' OR c.jobs < 20000 THEN c.jobs
            ELSE greatest(
                c.jobs, (
                    SELECT
                        CASE c.state
                            WHEN 'success' THEN i.success
                            WHEN 'lost' THEN i.swept
                            -- What is left; of more than 20,000 lost jobs, those that a sweep marked.
                            ELSE
                                i.jobs - i.success - c.running
                                - CASE WHEN c.lost < 20000 THEN c.lost ELSE greatest(c.lost, i.swept) END
                        END
                    FROM (
                        -- By the indexes of these states alone: pg_stats has each state's share, but of a
                        -- table with row-level security shows it to nobody whom the policies bind.
                        SELECT
                            max(k.reltuples) FILTER (WHERE k.oid = to_regclass('job')) AS jobs,
                            max(k.reltuples) FILTER (
                                WHERE k.oid = to_regclass('job_fingerprint_started_at_idx')
                            ) AS success,
                            max(k.reltuples) FILTER (
                                WHERE k.oid = to_regclass('job_swept_by_idx')
                            ) AS swept
                        FROM pg_class AS k
                        WHERE
                            k.oid IN (
                                to_regclass('job'), to_regclass('job_fingerprint_started_at_idx'),
                                to_regclass('job_swept_by_idx')
                            )
                    ) AS i
                )
            )
        END AS value,
        'Jobs by state; of those that ended an estimate where there are more than 20,000' AS help
    FROM (
        SELECT
            s.state,
            n.jobs,
            max(n.jobs) FILTER (WHERE s.state = 'running') OVER () AS running,
            max(n.jobs) FILTER (WHERE s.state = 'lost') OVER () AS lost
        FROM (VALUES ('running'), ('success'), ('error'), ('lost')) AS s (state)
        CROSS JOIN LATERAL (
            SELECT count(*) AS jobs
            FROM (
                SELECT 1
                FROM job AS j
                WHERE j.state = s.state
                ORDER BY j.started_at
                -- All that run: they are few, and counted.
                LIMIT CASE WHEN s.state <> 'running' THEN 20000 END
            ) AS t
        ) AS n
    ) AS c
    UNION ALL
    SELECT
        'butido_jobs_started_last_hour' AS metric,
        jsonb_build_object('state', s.state) AS labels,
        count(j.uuid) AS value,
        'Jobs that started within the last hour, by state' AS help
    FROM (VALUES ('running'), ('success'), ('error'), ('lost')) AS s (state)
    LEFT JOIN job AS j
        ON j.state = s.state AND j.started_at > now() - interval '1 hour' AND j.started_at <= now()
    GROUP BY s.state
    UNION ALL
    SELECT
        'butido_oldest_heartbeat_timestamp_seconds' AS metric,
        '{}' AS labels,
        coalesce(date_part('epoch', min(j.heartbeat_at)), 0) AS value,
        'Oldest last sign of life of a running job, 0 where none runs' AS help
    FROM job AS j
    WHERE j.state = 'running'
    UNION ALL
    SELECT
        'butido_releases' AS metric,
        jsonb_build_object('store', rs.name) AS labels,
        count(c.uuid) AS value,
        'Current releases by release store' AS help
    FROM release_store AS rs
    LEFT JOIN (
        -- What release_current has, each path read once: the view compares each release with all others
        -- of its path, where the planner takes it so.
        SELECT
            l.release_store_id,
            l.uuid
        FROM (
            SELECT DISTINCT ON (r.release_store_id, r.path_sha256)
                r.release_store_id,
                r.uuid,
                r.artifact_uuid
            FROM release AS r
            ORDER BY
                r.release_store_id DESC, r.path_sha256 DESC, r.timestamp DESC, r.uuid DESC,
                r.artifact_uuid DESC
        ) AS l
        WHERE NOT EXISTS (
            SELECT 1
            FROM release_withdrawal AS w
            WHERE w.release_uuid = l.uuid AND w.artifact_uuid = l.artifact_uuid
        )
    ) AS c ON c.release_store_id = rs.id
    GROUP BY rs.name
    UNION ALL
    SELECT
        'butido_table_rows' AS metric,
        jsonb_build_object('table', c.relname) AS labels,
        greatest(c.reltuples, 0) AS value,
        'Rows of a table, as of its last analyze' AS help
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind = 'r'
    UNION ALL
    SELECT
        'butido_table_bytes' AS metric,
        jsonb_build_object('table', c.relname) AS labels,
        pg_total_relation_size(c.oid) AS value,
        'Size of a table with its indexes and its long values' AS help
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind = 'r'
) AS m
ORDER BY m.metric COLLATE "C", m.labels::text COLLATE "C";
