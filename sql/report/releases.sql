-- What is released, newest first?
--
-- A release is replaced by the next one of the same path to the same store. Once that one is withdrawn
-- nothing is there: it had overwritten the file.
--
-- store: only what went to this release store
-- package, -p: only what jobs made for the package of this name
-- artifact: only this artifact
-- history: also what was withdrawn or replaced
-- newer_than: only what was released at or after this time
-- older_than: only what was released before this time
-- limit: at most this many

SELECT
    r.uuid,
    r.artifact_uuid,
    rs.name AS store,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    p.name AS package,
    p.version,
    r.timestamp,
    r.actor,
    n.timestamp AS replaced_at,
    w.timestamp AS withdrawn_at,
    w.actor AS withdrawn_by,
    w.reason
FROM release AS r
JOIN release_store AS rs ON rs.id = r.release_store_id
JOIN artifact AS a ON a.uuid = r.artifact_uuid
LEFT JOIN job AS j ON j.uuid = a.job_uuid
LEFT JOIN package AS p ON p.id = j.package_id
LEFT JOIN release_withdrawal AS w ON w.release_uuid = r.uuid AND w.artifact_uuid = r.artifact_uuid
LEFT JOIN LATERAL (
    SELECT l.timestamp
    FROM release AS l
    WHERE
        l.release_store_id = r.release_store_id
        AND l.path_sha256 = r.path_sha256
        AND (l.timestamp, l.uuid, l.artifact_uuid) > (r.timestamp, r.uuid, r.artifact_uuid)
    ORDER BY l.timestamp, l.uuid, l.artifact_uuid
    LIMIT 1
) AS n ON TRUE
WHERE
    (
        num_nonnulls(w.timestamp, n.timestamp) = 0
\if :{?history}
        OR :'history'::boolean
\endif
    )
\if :{?store}
    AND rs.name = :'store'::text
\endif
\if :{?package}
    AND p.name = :'package'::text
\endif
\if :{?artifact}
    AND r.artifact_uuid = :'artifact'::uuid
\endif
\if :{?newer_than}
    AND r.timestamp >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND r.timestamp < :'older_than'::timestamptz
\endif
ORDER BY r.timestamp DESC, r.uuid DESC, r.artifact_uuid DESC
\if :{?limit}
LIMIT :limit
\endif
;
