-- Take an artifact back from a release store; that it was there stays recorded.
--
-- Without a row the artifact is not in that release store: release/withdrawn tells whether this very
-- withdrawal is recorded already.
--
-- store: name of the release store
-- timestamp: when it is taken back
-- actor: who takes it back
-- reason: why

INSERT INTO release_withdrawal (release_uuid, artifact_uuid, timestamp, actor, reason)
SELECT
    c.uuid,
    c.artifact_uuid,
    :'timestamp'::timestamptz,
    :'actor'::text,
    :'reason'::text
FROM release_current AS c
WHERE
    c.artifact_uuid = :'artifact'::uuid
    AND c.store = :'store'::text
    -- Not again, where it was released anew since.
    AND NOT EXISTS (
        SELECT 1
        FROM release_withdrawal AS w
        JOIN release AS r ON r.uuid = w.release_uuid AND r.artifact_uuid = w.artifact_uuid
        JOIN release_store AS rs ON rs.id = r.release_store_id
        WHERE
            w.artifact_uuid = :'artifact'::uuid
            AND rs.name = :'store'::text
            AND w.timestamp = :'timestamp'::timestamptz
            AND w.actor = :'actor'::text
            AND w.reason = :'reason'::text
    )
ON CONFLICT (release_uuid, artifact_uuid) DO NOTHING
RETURNING release_uuid;
