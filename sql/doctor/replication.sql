-- How far are the standbys behind, or this standby, and are those there that writes wait for?
--
-- Reads the list of sessions that send WAL, and where the WAL stands.
-- 0.2 ms with 100,000 jobs of bench/generate.py.
--
-- bytes: how much WAL a standby may lack; 1 GB if not given
-- seconds: how long ago it was written; 300 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?bytes}
            :'bytes'::bigint,
\endif
            1073741824
        )::bigint AS bytes,
        coalesce(
\if :{?seconds}
            :'seconds'::bigint,
\endif
            300
        )::bigint AS seconds
),

standby AS (
    SELECT
        r.pid,
        r.application_name AS name,
        r.state,
        r.sync_state,
        coalesce(date_part('epoch', r.replay_lag), 0) AS seconds,
        CASE
            WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)
            ELSE pg_wal_lsn_diff(pg_last_wal_replay_lsn(), r.replay_lsn)
        END AS bytes
    FROM pg_stat_replication AS r
)

SELECT
    f.verdict,
    f.object,
    f.value,
    format('%s, %s s', pg_size_pretty(g.bytes), g.seconds) AS "limit",
    CASE
        WHEN f.verdict = 'unknown'
            THEN format('See them as a member of pg_monitor: GRANT pg_monitor TO %I;', current_user)
        WHEN f.verdict <> 'ok' THEN f.advice
    END AS advice,
    f.number
FROM given AS g
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN s.state IS NULL THEN 'unknown'
            WHEN s.bytes > g.bytes OR s.seconds > g.seconds THEN 'warn'
            ELSE 'ok'
        END AS verdict,
        CASE WHEN s.state IS NULL THEN 'a standby' ELSE format('standby %I', s.name) END AS object,
        format('%s, %s s', pg_size_pretty(s.bytes), round(s.seconds)) AS value,
        'See its server''s log and load; what waits for it is slow.' AS advice,
        s.bytes::double precision AS number
    FROM standby AS s
    UNION ALL
    -- A commit waits for ever where no synchronous standby is there to confirm it.
    SELECT
        CASE WHEN count(s.pid) > count(s.state) THEN 'unknown' ELSE 'bad' END AS verdict,
        'synchronous standbys' AS object,
        'none is connected' AS value,
        'Each write waits: start one of synchronous_standby_names, or take it out.' AS advice,
        NULL AS number
    FROM (VALUES (TRUE)) AS always (there)
    LEFT JOIN standby AS s ON always.there
    HAVING
        current_setting('synchronous_standby_names') <> ''
        AND NOT pg_is_in_recovery()
        AND count(*) FILTER (WHERE s.sync_state IN ('sync', 'quorum')) = 0
    UNION ALL
    SELECT
        CASE
            WHEN NOT w.streams OR w.seconds > g.seconds OR w.bytes > g.bytes THEN 'warn' ELSE 'ok'
        END AS verdict,
        'this standby' AS object,
        format('%s, %s s', pg_size_pretty(w.bytes), round(w.seconds))
        || CASE WHEN w.streams THEN '' ELSE ', and does not stream' END AS value,
        'It is not connected to its primary, or cannot keep up: see its log.' AS advice,
        w.seconds AS number
    FROM (
        SELECT
            (SELECT count(v.pid) > 0 FROM pg_stat_wal_receiver AS v) AS streams,
            pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) AS bytes,
            -- Where all is replayed, the last write is as old as it is because nobody wrote.
            CASE
                WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                ELSE date_part('epoch', clock_timestamp() - pg_last_xact_replay_timestamp())
            END AS seconds
    ) AS w
    WHERE pg_is_in_recovery()
    UNION ALL
    SELECT
        'ok' AS verdict,
        'standbys' AS object,
        'none' AS value,
        NULL AS advice,
        0 AS number
    WHERE NOT pg_is_in_recovery() AND NOT EXISTS (SELECT 1 FROM standby)
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
