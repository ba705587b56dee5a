-- Which files can stand for this package's build, released ones first, then newest first?
--
-- Only what successful jobs made. This is looser than the exact question of artifact/reusable: it
-- asks what butido asks, so inputs do not count, and a filter that is not given does not either.
--
-- package: name of the package
-- version: only this version
-- image, -I: only from jobs in this image
-- allow_image: only from jobs in one of these images
-- deny_image: not from jobs in one of these images
-- script: only from jobs that ran exactly this script
-- env, -E: only from jobs whose environment is exactly these NAME=VALUE, the package's own and the
--          additional ones; a single empty one for the empty environment
-- limit: at most this many

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    p.version,
    i.name AS image,
    j.finished_at,
    r.stores AS released
FROM package AS p
JOIN job AS j ON j.package_id = p.id
JOIN image AS i ON i.id = j.image_id
JOIN artifact AS a ON a.job_uuid = j.uuid
CROSS JOIN LATERAL (
    SELECT ARRAY(
        SELECT DISTINCT c.store
        FROM release_current AS c
        WHERE c.artifact_uuid = a.uuid
        ORDER BY c.store
    ) AS stores
) AS r
WHERE
    p.name = :'package'::text
    AND j.state = 'success'
\if :{?version}
    AND p.version = :'version'::text
\endif
\if :{?image}
    AND i.name = :'image'::text
\endif
\if :{?allow_image}
    AND i.name = ANY(:'allow_image'::text[])
\endif
\if :{?deny_image}
    AND i.name <> ALL(:'deny_image'::text[])
\endif
\if :{?script}
    AND j.script = :'script'::text
\endif
\if :{?env}
    AND j.environment_id = (
        SELECT n.id
        FROM environment AS n
        WHERE n.sha256 = environment_sha256((
            SELECT
                coalesce(
                    jsonb_object_agg(
                        split_part(w.entry, '=', 1), substr(w.entry, strpos(w.entry, '=') + 1)
                    ), '{}'
                )
            FROM unnest(:'env'::text[]) AS w (entry)
            WHERE w.entry <> ''
        ))
    )
\endif
ORDER BY r.stores <> '{}' DESC, j.started_at DESC, j.uuid DESC, a.path COLLATE "C" ASC, a.uuid ASC
\if :{?limit}
LIMIT :'limit'::bigint
\endif
;
