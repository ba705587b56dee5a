"""Write migrations as one psql script, for a DBA who applies them without this package.

The script records them as the migrator does, by the same files of `sql/migration`: psql reads those
as they are.
"""

from pathlib import Path

from yoyo.migrations import get_migration_hash

from butido_store._query import directory as shipped_directory
from butido_store._query import query, tokenize
from butido_store._target import DEFAULT_SCHEMA
from butido_store.admin.migrate import (
    SETTINGS,
    MigrationFile,
    check_schema,
    position,
    shipped,
)  # fmt: skip
from butido_store.errors import MigrationError

_HEAD = """\
-- The migrations {names}
-- of butido_store, for the schema that is set below. Run it with
--
--     psql -X -d DATABASE -f FILE
--
-- as the role that is to own what it creates. {follows}
-- It stops at the first error, and what it has told until then as applied stays. A lock that is not
-- to be had is one: write a script from there on, and run that. `butido-store migrate apply` tries
-- again by itself.

\\set ON_ERROR_STOP on
\\set ON_ERROR_ROLLBACK off
\\set AUTOCOMMIT on
\\set QUIET on
\\encoding UTF8
SET client_min_messages = warning;
\\set schema {schema}
"""
_REFUSE = """\
DO $$
BEGIN
    RAISE EXCEPTION '{reason}';
END
$$;
"""


def write(
    *,
    schema: str = DEFAULT_SCHEMA,
    start: str | None = None,
    to: str | None = None,
    directory: Path | None = None,
) -> str:
    """Write migrations as a psql script, which refuses to run where they do not come next.

    :param schema: the schema that holds the store, created when it is not there
    :param start: the migration that is the last one applied; by default none is
    :param to: the last one of the script; by default the last there is
    :param directory: where the migrations are; by default those of this release
    :returns: the text of the script
    :raises MigrationError: there is no such migration, or nothing between the two
    """
    check_schema(schema)
    files = shipped(directory)
    first = 0 if start is None else position(files, start)
    last = len(files) if to is None else position(files, to)
    before, wanted = files[:first], files[first:last]
    if not wanted:
        raise MigrationError(f"there is no migration after {start} up to {files[last - 1].id}")
    follows = f"{before[-1].id} has to be the last one applied." if before else "None is applied."
    names = ", ".join(file.id for file in wanted)
    parts = [
        _HEAD.format(names=names, schema=_quoted(schema), follows=follows),
        _alone(),
        _begin(before),
        *(_migration(file) for file in wanted),
        f"{_query('migration/unlock')} \\gset\n",
    ]
    return "\n".join(parts)


def _alone() -> str:
    """Return what takes the lock of the schema's only migrator, and makes the session."""
    return "\n".join(
        [
            "-- One migrator works on a schema at a time.",
            f"{_query('migration/lock')} \\gset",
            "\\if :locked",
            "\\else",
            _REFUSE.format(reason="another migrator is at work on this schema") + "\\endif",
            f"{_query('migration/session')} \\gset",
            *_set(**SETTINGS),
            "\\set search_path :search_path_wanted",
            f"{_query('migration/set')} \\gset",
            "",
        ]
    )


def _begin(before: list[MigrationFile]) -> str:
    """Return what makes the schema and the tables of the record, and checks what stands there."""
    bookkeeping = (shipped_directory("schema") / "bookkeeping.sql").read_text("utf-8")
    hashes = ",".join(file.sha256.hex() for file in before)
    return "\n".join(
        [
            "BEGIN;",
            "\\if :has_schema",
            "\\else",
            _query("migration/create_schema") + ";",
            "\\endif",
            "",
            bookkeeping,
            "-- Refuse where the migrations below do not come next.",
            *_set(ids="{" + ",".join(file.id for file in before) + "}", sha256s=f"{{{hashes}}}"),
            f"{_query('migration/unfit')} \\gset",
            "\\if :{?unfit}",
            "\\warn this script does not come next here: :unfit",
            _REFUSE.format(reason="nothing was changed") + "\\endif",
            "COMMIT;",
            "",
        ]
    )


def _migration(file: MigrationFile) -> str:
    """Return a migration and its record, in one transaction where it may be."""
    path = file.path
    begin = ["BEGIN;"]
    if not file.transactional:
        # What an attempt that was cut off left is dropped, as the migrator does.
        attempt = file.leftover
        begin = [_escaped(attempt, path) + ";"] if attempt else []
    return "\n".join(
        [
            f"-- {file.id} {'-' * (96 - len(file.id))}",
            "",
            "SELECT clock_timestamp() AS started \\gset",
            *begin,
            _escaped(path.read_text("utf-8"), path),
            *([] if file.transactional else ["BEGIN;"]),
            *_set(
                id=file.id,
                hash=get_migration_hash(file.id),
                sha256=f"\\x{file.sha256.hex()}",
                phase=file.phase,
                operation="apply",
                hostname="psql",
            ),
            "SELECT clock_timestamp() - :'started'::timestamptz AS duration \\gset",
            f"{_query('migration/mark')} \\gset",
            f"{_query('migration/log')} \\gset",
            "COMMIT;",
            f"\\echo applied {file.id}",
            "",
        ]
    )


def _query(name: str) -> str:
    """Return the statement of a query file, without its header and its semicolon."""
    text = query(name).path.read_text("utf-8")
    return text.partition("\n\n")[2].rstrip().removesuffix(";")


def _set(**values: str) -> list[str]:
    """Return the commands that set psql's variables."""
    return [f"\\set {name} {_quoted(value)}" for name, value in values.items()]


def _quoted(value: str) -> str:
    """Return a value as an argument of a psql command."""
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def _escaped(sql: str, path: Path) -> str:
    """Return a file's text as psql has to read it, to send what the file says.

    psql would put a variable's value in the place of `:name`, which in SQL is the end of a slice.
    """
    ended, text = True, []
    for token in tokenize(sql, path):
        colon = token.kind in ("parameter", "variable") and token.text.startswith(":")
        text.append("\\" * colon + token.text)
        if token.kind not in ("space", "line", "block"):
            ended = token.kind == "end"
    # Not at the end of a line, which may be a comment's.
    return "".join(text).rstrip() + ("" if ended else "\n;")
