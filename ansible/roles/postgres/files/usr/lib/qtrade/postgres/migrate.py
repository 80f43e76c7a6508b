"""Bring roles and schema up to date: one psql session, under a lock, each migration in a transaction of its own.

A migration that was applied is never edited: its digest is compared. Migrations that a newer image applied stay as they are; they only
add (`-- expand: why`), so that an older image goes on with them. What no image reads any more that a host may go back to is removed by
`-- contract after VERSION: why`, VERSION being the last that read it.
"""

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SHARE = Path("/usr/share/qtrade/postgres")
PSQL = ("/usr/bin/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
# Who migrates holds it; the number means nothing.
LOCK = 7172616465
# SQLSTATE lock_not_available. Partitions are made days ahead, and inserts queue behind who waits for a whole table: none is waited for.
_LOCKED = "55P03"
# A restore replays the WAL since its backup. The unit's own limit is above it.
RECOVERY_LIMIT_S = 2 * 60 * 60
# What would end the transaction that a migration runs in, or leave SQL for psql.
_OWN_TRANSACTION = re.compile(r"^\s*(BEGIN|COMMIT|ROLLBACK|START\s+TRANSACTION)\s*;", re.IGNORECASE | re.MULTILINE)
_OF_PSQL = re.compile(r"^\s*\\", re.MULTILINE)
_PURPOSE = re.compile(r"-- (?:(expand)|(contract) after (\d+\.\d+\.\d+)): \S.*\n")
# What an older image does not survive: at the beginning of a statement, or within one.
_BREAKING = re.compile(
    r"^\s*(DROP|TRUNCATE|DELETE)\b|\b(RENAME|DROP COLUMN|SET NOT NULL|ALTER COLUMN \w+ (SET DATA )?TYPE)\b",
    re.MULTILINE | re.IGNORECASE,
)
_NEW_COLUMN = re.compile(r"\bADD COLUMN\b(?:\([^()]*\)|[^;,()])*", re.IGNORECASE)
_DEMANDED = re.compile(r"\bNOT NULL\b", re.IGNORECASE)
_GIVEN = re.compile(r"\b(DEFAULT|GENERATED)\b", re.IGNORECASE)


class Migration(NamedTuple):
    """A numbered change of the schema. `kind` is `expand` or `contract`, which comes after the version that last read what it takes."""

    number: int
    name: str
    kind: str
    sql: str
    after: str = ""

    @property
    def label(self) -> str:
        """Number and name, as the file is called."""
        return f"{self.number:04d}_{self.name}"

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """Return the migrations in order. Raises `ValueError` for a file that does not follow the rules."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", path.name)
        if not match:
            raise ValueError(f"{path.name} is not NNNN_name.sql")
        sql = path.read_text()
        purpose = _PURPOSE.match(sql)
        if not purpose:
            raise ValueError(f"{path.name} does not begin with `-- expand: why` or `-- contract after 1.2.3: why`")
        if _OWN_TRANSACTION.search(sql) or _OF_PSQL.search(sql):
            raise ValueError(f"{path.name} has a transaction or a command of psql's of its own: it runs in one already")
        breaking = find_breaking(sql)
        if purpose[1] and breaking:
            raise ValueError(
                f"{path.name} expands, but has `{breaking}`, which an image that a host may go back to does not survive: "
                "leave it to a `-- contract after 1.2.3:`, two versions later"
            )
        if int(match[1]) in found:
            raise ValueError(f"number {match[1]} is used twice")
        found[int(match[1])] = Migration(int(match[1]), match[2], purpose[1] or purpose[2], sql, purpose[3] or "")
    return [found[number] for number in sorted(found)]


def find_breaking(sql: str) -> str:
    """Return the first words that take something from older images, or nothing."""
    for match in _NEW_COLUMN.finditer(sql):
        if _DEMANDED.search(match[0]) and not _GIVEN.search(match[0]):
            return " ".join(match[0].split())
    found = _BREAKING.search(sql)
    return " ".join(found[0].split()) if found else ""


def render_script(migrations: list[Migration], *, roles: str, settings: dict[str, int]) -> str:
    """Return all that psql has to do, from whatever state; `settings` are days to keep, by table (0: for ever)."""
    return "\n".join(
        (
            _PREPARE.format(lock=LOCK, roles=roles),
            _check(migrations),
            *(_APPLY.format(m=migration, digest=migration.digest) for migration in migrations),
            _finish(migrations, settings),
        )
    )


_PREPARE = """SET client_min_messages = warning;
SELECT pg_advisory_lock({lock}) \\gset
BEGIN;
{roles}
COMMIT;
SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') AS is_missing \\gset
\\if :is_missing
CREATE DATABASE :"database" OWNER qtrade_owner;
\\endif
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO qtrade_client, qtrade_readonly, qtrade_metrics;
\\connect :"database"
SET client_min_messages = warning;
SELECT pg_advisory_lock({lock}) \\gset
SET ROLE qtrade_owner;
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY, name text NOT NULL, kind text NOT NULL, sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now());
"""

_APPLY = """SELECT NOT EXISTS (SELECT FROM schema_migrations WHERE number = {m.number}) AS is_pending \\gset
\\if :is_pending
BEGIN;
SET LOCAL lock_timeout = '30s';
{m.sql}
INSERT INTO schema_migrations (number, name, kind, sha256) VALUES ({m.number}, '{m.name}', '{m.kind}', '{digest}');
COMMIT;
\\echo applied {m.label}
\\endif
"""


def _check(migrations: list[Migration]) -> str:
    """Return the check that stops before anything is applied: no text was altered, none was slipped in before others."""
    if not migrations:
        return ""
    known = ", ".join(f"({m.number}, '{m.label}', '{m.digest}')" for m in migrations)
    return f"""DO $check$
DECLARE
    wrong text;
BEGIN
    CREATE TEMPORARY TABLE known (number integer, label text, sha256 text);
    INSERT INTO known VALUES {known};
    SELECT string_agg(label, ', ') INTO wrong FROM known JOIN schema_migrations AS applied USING (number)
    WHERE applied.sha256 <> known.sha256;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '% was applied with another text: add a new migration, edit none', wrong;
    END IF;
    SELECT string_agg(label, ', ') INTO wrong FROM known
    WHERE number < (SELECT max(number) FROM schema_migrations) AND number NOT IN (SELECT number FROM schema_migrations);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '% comes before migrations that were applied already: give it the next number', wrong;
    END IF;
    DROP TABLE known;
END
$check$;
"""  # noqa: S608 - numbers, names and digests that read_migrations has checked


def _finish(migrations: list[Migration], settings: dict[str, int]) -> str:
    last = migrations[-1].number if migrations else 0
    keep = "".join(
        f"UPDATE partition_rules SET keep_days = {days} WHERE parent = '{table}' AND keep_days <> {days};\n"  # noqa: S608 - ours
        for table, days in settings.items()
    )
    return f"""SELECT format('left as it is: %s_%s (%s), of a newer image', to_char(number, 'FM0000'), name, kind)
FROM schema_migrations WHERE number > {last} ORDER BY number;
SELECT to_regclass('partition_rules') IS NOT NULL AS has_rules \\gset
\\if :has_rules
{keep}SET lock_timeout = '1s';
\\set ON_ERROR_STOP off
SELECT make_partitions();
\\set is_error :ERROR
\\set state :SQLSTATE
\\set ON_ERROR_STOP on
\\if :is_error
SELECT :'state' <> '{_LOCKED}' AS is_fatal \\gset
\\if :is_fatal
DO $fatal$BEGIN RAISE EXCEPTION 'no partitions were made'; END$fatal$;
\\endif
\\warn partitions are left to qtrade-postgres-maintain.timer: somebody reads for long
\\endif
\\endif
"""  # noqa: S608 - a number


def ask_recovery(psql: tuple[str, ...] = PSQL) -> str:
    """Return how far the server has recovered, or nothing when it takes writes."""
    question = "SELECT coalesce(pg_last_xact_replay_timestamp()::text, 'no commit yet') WHERE pg_is_in_recovery()"
    command = [*psql, "--dbname=postgres", f"--command={question}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def wait_for_writes(ask: Callable[[], str], sleep: Callable[[float], None], *, limit_s: int = RECOVERY_LIMIT_S) -> None:
    """Wait until recovery has ended: after a restore the server is ready, for reads, long before. Raises `TimeoutError`."""
    waited_s = 0
    while reached := ask():
        if waited_s >= limit_s:
            raise TimeoutError(
                f"recovery goes on after {limit_s} s, at {reached}: start this unit again when it has ended"
            )
        if waited_s % 30 == 0:
            sys.stderr.write(f"waiting for the end of recovery, which is at {reached}\n")
        sleep(1)
        waited_s += 1


def main() -> None:
    """Wait until the server takes writes, migrate, and exit with psql's code."""
    server: dict[str, Any] = json.loads((SHARE / "server.json").read_text())
    try:
        migrations = read_migrations(SHARE / "migrations")
    except ValueError as error:
        sys.exit(str(error))
    try:
        wait_for_writes(ask_recovery, time.sleep)
    except (TimeoutError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    settings = {"quotes": server["keep_quotes_days"], "opportunities": server["keep_opportunities_days"]}
    script = render_script(migrations, roles=(SHARE / "roles.sql").read_text(), settings=settings)
    command = [*PSQL, f"--set=database={server['database']}", "--dbname=postgres", "--file=-"]
    sys.exit(subprocess.run(command, input=script, text=True, check=False).returncode)


if __name__ == "__main__":
    main()
