-- Which environment does this submit add to its jobs?

SELECT
    v.name,
    v.value
FROM submitenvs AS se
JOIN envvar AS v ON v.id = se.envvar_id
WHERE se.submit_uuid = :'submit'::uuid
ORDER BY v.name, v.id;
