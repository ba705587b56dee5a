-- Which releases of this artifact has this very withdrawal taken back?
--
-- store: name of the release store
-- timestamp: when it was taken back
-- actor: who took it back
-- reason: why

SELECT w.release_uuid
FROM release_withdrawal AS w
JOIN release AS r ON r.uuid = w.release_uuid AND r.artifact_uuid = w.artifact_uuid
JOIN release_store AS rs ON rs.id = r.release_store_id
WHERE
    w.artifact_uuid = :'artifact'::uuid
    AND rs.name = :'store'::text
    AND w.timestamp = :'timestamp'::timestamptz
    AND w.actor = :'actor'::text
    AND w.reason = :'reason'::text
ORDER BY w.release_uuid;
