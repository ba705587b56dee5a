-- Which replication slots keep WAL that nobody fetches?
--
-- Reads the list of slots. 0.1 ms with 100,000 jobs of bench/generate.py.
--
-- bytes: how much WAL a slot may keep; 1 GB if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?bytes}
            :'bytes'::bigint,
\endif
            1073741824
        )::bigint AS bytes
)

SELECT
    f.verdict,
    f.object,
    f.value,
    f."limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN format(
                'The disk fills up: start what uses it, or SELECT pg_drop_replication_slot(%L);', f.name
            )
    END AS advice,
    f.number
FROM (
    SELECT
        s.slot_name AS name,
        coalesce('slot ' || s.slot_name, 'slots') AS object,
        coalesce(pg_size_pretty(s.bytes) || ', ' || s.state, 'none') AS value,
        pg_size_pretty(g.bytes) AS "limit",
        CASE
            WHEN s.wal_status IN ('unreserved', 'lost') THEN 'bad'
            WHEN s.bytes >= g.bytes THEN 'warn'
            ELSE 'ok'
        END AS verdict,
        coalesce(s.bytes, 0)::double precision AS number
    FROM given AS g
    LEFT JOIN (
        SELECT
            r.slot_name,
            r.wal_status,
            CASE WHEN r.active THEN 'in use' ELSE 'not in use' END
            || coalesce(', WAL ' || r.wal_status, '') AS state,
            CASE
                WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), r.restart_lsn)
                ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), r.restart_lsn)
            END AS bytes
        FROM pg_replication_slots AS r
    ) AS s ON TRUE
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
