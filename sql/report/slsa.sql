-- How was this artifact built, as an in-toto statement with a SLSA provenance predicate?
--
-- https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. Its subjects are all that the job
-- made, so it is the same for each of them. No row for an artifact that came from outside, nor for one
-- whose content is not known.
--
-- artifact: the artifact's uuid
-- builder: URI of the builder; by default one made of the endpoint's name

SELECT
    jsonb_build_object(
        '_type', 'https://in-toto.io/Statement/v1',
        'subject', (
            SELECT
                jsonb_agg(
                    jsonb_build_object(
                        'name', o.path, 'digest', jsonb_build_object('sha256', encode(o.sha256, 'hex'))
                    ) ORDER BY o.path, o.uuid
                )
            FROM artifact AS o
            WHERE o.job_uuid = j.uuid AND o.sha256 IS NOT NULL
        ),
        'predicateType', 'https://slsa.dev/provenance/v1',
        'predicate', jsonb_build_object(
            'buildDefinition', jsonb_build_object(
                'buildType', 'urn:butido-store:job:v1',
                'externalParameters', jsonb_build_object(
                    'package', p.name, 'version', p.version, 'image', i.name, 'script', j.script,
                    'environment', (
                        SELECT coalesce(jsonb_object_agg(v.name, v.value), '{}')
                        FROM jobenvs AS je
                        JOIN envvar AS v ON v.id = je.envvar_id
                        WHERE je.job_uuid = j.uuid
                    )
                ),
                'internalParameters', jsonb_strip_nulls(
                    jsonb_build_object(
                        'submit', s.uuid, 'endpoint', e.name, 'container', j.container_hash,
                        'fingerprint', encode(j.fingerprint, 'hex')
                    )
                ),
                'resolvedDependencies', jsonb_build_array(
                    jsonb_build_object(
                        'name', 'package repository', 'digest', jsonb_build_object('gitCommit', g.hash)
                    )
                ) || CASE
                    WHEN j.image_sha256 IS NULL THEN '[]'
                    ELSE
                        jsonb_build_array(
                            jsonb_build_object(
                                'name', i.name,
                                'digest', jsonb_build_object('sha256', encode(j.image_sha256, 'hex'))
                            )
                        )
                END || (
                    SELECT
                        coalesce(
                            jsonb_agg(
                                jsonb_build_object('name', d.path)
                                || CASE
                                    WHEN d.sha256 IS NULL
                                        THEN jsonb_build_object('uri', 'urn:uuid:' || d.uuid)
                                    ELSE jsonb_build_object(
                                        'digest', jsonb_build_object('sha256', encode(d.sha256, 'hex'))
                                    )
                                END ORDER BY d.path, d.uuid
                            ), '[]'
                        )
                    FROM job_input_artifacts AS ji
                    JOIN artifact AS d ON d.uuid = ji.artifact_uuid
                    WHERE ji.job_uuid = j.uuid
                )
            ),
            'runDetails', jsonb_build_object(
                'builder', jsonb_build_object(
                    'id', coalesce(
\if :{?builder}
                        :'builder'::text,
\endif
                        -- A name may have any letter; RFC 3986 leaves these as they are.
                        'urn:butido-store:endpoint:' || (
                            SELECT
                                string_agg(
                                    CASE
                                        WHEN c.letter ~ '[A-Za-z0-9._~-]' THEN c.letter
                                        ELSE upper(
                                            regexp_replace(
                                                encode(convert_to(c.letter, 'UTF8'), 'hex'),
                                                '..', '%\&', 'g'
                                            )
                                        )
                                    END, '' ORDER BY c.place
                                )
                            FROM regexp_split_to_table(e.name, '') WITH ORDINALITY AS c (letter, place)
                        )
                    )
                ),
                'metadata', jsonb_strip_nulls(
                    jsonb_build_object(
                        'invocationId', j.uuid, 'startedOn', rfc3339(j.started_at),
                        'finishedOn', rfc3339(j.finished_at)
                    )
                )
            )
        )
    ) AS statement
FROM artifact AS a
JOIN job AS j ON j.uuid = a.job_uuid
JOIN submit AS s ON s.uuid = j.submit_uuid
JOIN git_hash AS g ON g.id = s.repo_hash_id
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
WHERE a.uuid = :'artifact'::uuid AND a.sha256 IS NOT NULL
ORDER BY a.uuid;
