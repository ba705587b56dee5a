-- Which environment did this job have?

SELECT
    v.name,
    v.value
FROM jobenvs AS je
JOIN envvar AS v ON v.id = je.envvar_id
WHERE je.job_uuid = :'job'::uuid
ORDER BY v.name, v.id;
