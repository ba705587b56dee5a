-- Drop everything that 0001.initial creates. This loses every record.

-- Dropping is what it is for.
-- squawk-ignore-file ban-drop-table, ban-drop-view, ban-drop-function, ban-drop-domain

SET LOCAL lock_timeout = '150ms';

DROP VIEW release_current;
DROP VIEW artifact_overview;
DROP VIEW job_overview;
DROP VIEW submit_overview;
DROP VIEW retention_submit;
DROP VIEW retention_log_reader;
DROP VIEW retention_job;
DROP TABLE retention_walk;
DROP TABLE retention_rule;
DROP FUNCTION artifact_descendants(uuid[]);
DROP FUNCTION artifact_ancestors(uuid[]);
DROP TABLE release_withdrawal;
DROP TABLE release;
DROP TABLE release_store;
DROP FUNCTION job_log(uuid);
DROP TABLE reuse;
DROP TABLE job_input_artifacts;
DROP TABLE artifact;
DROP TABLE job_log_chunk;
DROP VIEW jobenvs;
DROP TABLE job;
DROP FUNCTION failure_rule();
DROP FUNCTION failure_lines(text);
DROP VIEW submitenvs;
DROP TABLE submit;
DROP TABLE endpoint;
DROP TABLE image;
DROP TABLE package;
DROP TABLE git_hash;
DROP TABLE environment_envvar;
DROP TABLE environment;
DROP TABLE envvar;
DROP DOMAIN measurements;
DROP DOMAIN nonnegative;
DROP DOMAIN relative_path;
DROP DOMAIN nonempty_text;
DROP DOMAIN short_text;
DROP DOMAIN digest;
DROP DOMAIN moment;
DROP DOMAIN job_state;
DROP FUNCTION buildplan_is_valid(jsonb);
DROP FUNCTION tree_packages(jsonb);
DROP FUNCTION tree_is_valid(jsonb);
DROP FUNCTION rfc3339(timestamptz);
DROP FUNCTION sha256sum(bytea, text);
DROP FUNCTION job_fingerprint(text, text, text, bytea, text, bytea, text[]);
DROP FUNCTION envvar_sha256(jsonb);
DROP FUNCTION envvar_text(jsonb);
DROP FUNCTION envvar_value(text);
DROP FUNCTION envvar_name(text);
DROP FUNCTION environment_sha256(jsonb);
DROP FUNCTION netstring(text);
DROP FUNCTION text_sha256(text);
