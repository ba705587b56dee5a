-- What did this submit request?

SELECT
    s.uuid,
    s.timestamp,
    p.name AS package,
    p.version,
    i.name AS image,
    g.hash AS repo_hash,
    s.actor,
    s.labels,
    s.tree,
    s.buildplan
FROM submit AS s
JOIN package AS p ON p.id = s.requested_package_id
JOIN image AS i ON i.id = s.requested_image_id
JOIN git_hash AS g ON g.id = s.repo_hash_id
WHERE s.uuid = :'submit'::uuid
ORDER BY s.uuid;
