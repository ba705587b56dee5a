-- Are the tables of the records there?

SELECT 1 AS has_records
WHERE
    to_regclass('submit') IS NOT NULL
    AND to_regclass('job') IS NOT NULL
    AND to_regclass('artifact') IS NOT NULL
    AND to_regclass('release') IS NOT NULL;
