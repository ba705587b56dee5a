-- The tables of butido 0.3's database, with columns for what it does not store: the tree and the
-- plan, a job's state and times, an artifact's uuid, digest and size, and the files that jobs read.

CREATE SCHEMA peer;

CREATE TABLE envvars (
    id serial PRIMARY KEY, name varchar NOT NULL, value varchar NOT NULL, UNIQUE (name, value)
);
CREATE TABLE githashes (id serial PRIMARY KEY, hash varchar(64) UNIQUE NOT NULL);
CREATE TABLE packages (
    id serial PRIMARY KEY, name varchar NOT NULL, version varchar NOT NULL, UNIQUE (name, version)
);
CREATE TABLE images (id serial PRIMARY KEY, name varchar UNIQUE NOT NULL);
CREATE TABLE endpoints (id serial PRIMARY KEY, name varchar UNIQUE NOT NULL);
CREATE TABLE submits (
    id serial PRIMARY KEY,
    uuid uuid UNIQUE NOT NULL,
    submit_time timestamptz NOT NULL,
    requested_image_id integer NOT NULL REFERENCES images (id),
    requested_package_id integer NOT NULL REFERENCES packages (id),
    repo_hash_id integer NOT NULL REFERENCES githashes (id),
    tree jsonb NOT NULL,
    buildplan jsonb NOT NULL
);
CREATE TABLE submit_envs (
    id serial PRIMARY KEY,
    submit_id integer NOT NULL REFERENCES submits (id),
    env_id integer NOT NULL REFERENCES envvars (id),
    UNIQUE (submit_id, env_id)
);
CREATE TABLE jobs (
    id serial PRIMARY KEY,
    submit_id integer NOT NULL REFERENCES submits (id),
    endpoint_id integer NOT NULL REFERENCES endpoints (id),
    package_id integer NOT NULL REFERENCES packages (id),
    image_id integer NOT NULL REFERENCES images (id),
    container_hash varchar NOT NULL,
    script_text text NOT NULL,
    log_text text NOT NULL,
    uuid uuid UNIQUE NOT NULL,
    state varchar NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL
);
CREATE TABLE job_envs (
    id serial PRIMARY KEY,
    job_id integer NOT NULL REFERENCES jobs (id),
    env_id integer NOT NULL REFERENCES envvars (id),
    UNIQUE (job_id, env_id)
);
CREATE TABLE artifacts (
    id serial PRIMARY KEY,
    path varchar NOT NULL,
    job_id integer NOT NULL REFERENCES jobs (id),
    uuid uuid UNIQUE NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL,
    UNIQUE (path, job_id)
);
CREATE TABLE job_input_artifacts (
    id serial PRIMARY KEY,
    job_id integer NOT NULL REFERENCES jobs (id),
    artifact_id integer NOT NULL REFERENCES artifacts (id),
    UNIQUE (job_id, artifact_id)
);
