"""Apply the numbered migrations that the database does not have yet, each in one transaction.

A migration that was applied is never edited: its digest is compared. Migrations that a newer image applied stay; they
only add, so an older image can be booted again.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

MIGRATIONS = Path("/usr/share/qtrade/postgres/migrations")
PSQL = ["/usr/bin/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
TABLE = """
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now());
"""
NOTE = "INSERT INTO schema_migrations (number, name, sha256) VALUES (:number, :'name', :'digest');"


def query(database: str, sql: str, *options: str) -> list[str]:
    """Return the lines that psql prints."""
    command = [*PSQL, *options, f"--dbname={database}", "--file=-"]
    return subprocess.run(command, input=sql, text=True, check=True, stdout=subprocess.PIPE).stdout.splitlines()


def list_migrations(folder: Path) -> list[tuple[int, str, str]]:
    """Return (number, name, SQL) in order; a name that does not fit or a number used twice is an error."""
    found = {}
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", path.name)
        if not match:
            raise ValueError(f"{path.name} is not NNNN_name.sql")
        if int(match[1]) in found:
            raise ValueError(f"number {match[1]} is used twice")
        found[int(match[1])] = (match[2], path.read_text())
    return [(number, *found[number]) for number in sorted(found)]


def apply(database: str, number: int, name: str, sql: str) -> None:
    """Apply one migration and note it in the same transaction."""
    digest = hashlib.sha256(sql.encode()).hexdigest()
    values = (f"--set=number={number}", f"--set=name={name}", f"--set=digest={digest}")
    query(database, f"{sql}\n{NOTE}\n", "--single-transaction", *values)
    sys.stdout.write(f"applied {number:04d}_{name}\n")


def main() -> None:
    """Bring the database named on the command line up to date."""
    database = sys.argv[1]
    if database not in query("postgres", "SELECT datname FROM pg_database;"):
        query("postgres", 'CREATE DATABASE :"database";', f"--set=database={database}")
    query(database, TABLE)
    applied = dict(line.split("|") for line in query(database, "SELECT number, sha256 FROM schema_migrations;"))
    for number, name, sql in list_migrations(MIGRATIONS):
        digest = applied.get(str(number))
        if digest is None:
            apply(database, number, name, sql)
        elif digest != hashlib.sha256(sql.encode()).hexdigest():
            sys.exit(f"migration {number:04d}_{name} was applied with another text: add a new one, edit none")


if __name__ == "__main__":
    main()
