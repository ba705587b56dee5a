-- How many records are there?

SELECT
    (SELECT count(*) FROM submit) AS submit,
    (SELECT count(*) FROM job) AS job,
    (SELECT count(*) FROM artifact) AS artifact,
    (SELECT count(*) FROM release) AS release;
