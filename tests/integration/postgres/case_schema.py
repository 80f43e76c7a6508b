"""Roles, passwords and migrations against the real server."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.postgres.conftest import ACCOUNT, SHARE, Host

pytestmark = pytest.mark.integration

WRITERS = "qtrade_client"
PASSWORD = "Zm9vYmFyYmF6cXV4"
POOL = "INSERT INTO pools (address, program, base_mint, quote_mint, fee_bps, first_seen_slot) VALUES ('{}', 'p', 'b', 'q', 30, 1)"


@pytest.fixture
def migrations(host: Host) -> Iterator[Path]:
    """The image's migrations, to be changed for one test."""
    folder = host.path(f"{SHARE}/migrations")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    yield folder
    for path in folder.iterdir():
        path.unlink()
    for name, text in before.items():
        (folder / name).write_text(text)


def applied(host: Host) -> list[str]:
    return host.psql("SELECT number || ' ' || sha256 FROM schema_migrations ORDER BY number").splitlines()


def test_a_second_run_changes_nothing(host: Host) -> None:
    before = host.psql("SELECT * FROM schema_migrations ORDER BY number")
    assert before
    done = host.python("migrate")
    assert (done.stdout, done.stderr) == ("", "")
    assert host.psql("SELECT * FROM schema_migrations ORDER BY number") == before


def test_the_server_reads_its_access_rules(host: Host) -> None:
    assert host.psql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == "0"
    assert host.psql("SELECT count(*) FROM pg_ident_file_mappings WHERE error IS NOT NULL") == "0"
    assert host.psql("SELECT DISTINCT auth_method FROM pg_hba_file_rules ORDER BY 1").split() == [
        "peer",
        "scram-sha-256",
    ]
    assert (
        host.psql("SELECT count(*) FROM pg_settings WHERE pending_restart OR sourcefile IS NULL AND source = 'file'")
        == "0"
    )


def test_everything_belongs_to_the_owner_who_cannot_log_in(host: Host) -> None:
    assert host.psql("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = 'qtrade_owner'") == "f|f"
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'partitions')"
    assert host.psql(owners) == "qtrade_owner"
    assert host.psql("SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname LIKE 'qtrade%'") == "0"


@pytest.mark.parametrize(
    ("role", "sql", "is_allowed"),
    [
        ("qtrade_client", POOL.format("a1"), True),
        (
            "qtrade_client",
            "INSERT INTO opportunities (slot, path, expected_profit_lamports) VALUES (5, '{a,b}', 7)",
            True,
        ),
        ("qtrade_client", "UPDATE opportunities SET state = 'taken'", True),
        ("qtrade_client", "UPDATE quotes SET slot = 0", False),
        ("qtrade_client", "DELETE FROM trades", False),
        ("qtrade_client", "CREATE TABLE mine (x integer)", False),
        ("qtrade_client", "SELECT drop_partitions()", False),
        ("qtrade_client", "COPY trades TO PROGRAM 'true'", False),
        ("qtrade_readonly", "SELECT count(*) FROM trades, pools, schema_migrations", True),
        ("qtrade_readonly", "SELECT count(*) FROM pg_stat_activity WHERE query IS NOT NULL", True),
        (
            "qtrade_readonly",
            "SET default_transaction_read_only = off; INSERT INTO trades (signature, state) VALUES ('x', 'sent')",
            False,
        ),
        ("qtrade_metrics", "SELECT count(*) FROM pg_stat_database", True),
        ("qtrade_metrics", "SELECT count(*) FROM trades", False),
        ("qtrade_backup", "SELECT pg_read_file('/etc/passwd')", False),
    ],
)
def test_roles(role: str, sql: str, host: Host, *, is_allowed: bool) -> None:
    said = host.psql(sql, role=role, check=False)
    assert ("ERROR" not in said) is is_allowed, said
    if not is_allowed:
        assert "permission denied" in said, said


@pytest.mark.parametrize(
    ("account", "role", "is_allowed"),
    [
        ("421:421", WRITERS, True),
        ("421:421", "postgres", False),
        ("421:421", "qtrade_readonly", False),
        ("1000:37", "qtrade_readonly", True),
    ],
)
def test_the_account_is_the_role(account: str, role: str, host: Host, *, is_allowed: bool) -> None:
    host.path("/run/postgresql").chmod(0o755)
    options = ("--no-psqlrc", f"--username={role}", "--dbname=qtrade", "--command=SELECT 1")
    done = host.run("psql", *options, account=account, check=False)
    assert (done.returncode == 0) is is_allowed, done.stderr


def log_in(host: Host, role: str, password: str) -> bool:
    options = ("--no-psqlrc", "--host=127.0.0.1", f"--username={role}", "--dbname=qtrade", "--command=SELECT 1")
    return host.run("psql", *options, env={"PGPASSWORD": password}, check=False, account="65534:65534").returncode == 0


def send_passwords(host: Host, passwords: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder = host.path("/run/credentials-of-the-test")
    folder.mkdir(exist_ok=True)
    for name, password in passwords.items():
        (folder / name).write_text(password)
    subprocess.run(["chown", "-R", ACCOUNT, folder], check=True)
    env = {"CREDENTIALS_DIRECTORY": "/run/credentials-of-the-test"}
    return host.python("set_passwords", env=env, check=False)


def test_passwords_are_set_and_known_to_nobody(host: Host) -> None:
    assert not log_in(host, WRITERS, PASSWORD)
    host.psql("ALTER SYSTEM SET log_statement = 'all'")
    host.psql("SELECT pg_reload_conf()")
    done = send_passwords(host, {"postgres_client_password": PASSWORD, "postgres_metrics_password": "-"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "qtrade_client: password set\n"
    assert log_in(host, WRITERS, PASSWORD)
    assert not log_in(host, WRITERS, PASSWORD + "x")
    assert not log_in(host, "qtrade_metrics", "-")
    verifier = host.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'qtrade_client'")
    assert verifier.startswith("SCRAM-SHA-256$4096:")
    assert "SELECT rolname, rolpassword" in host.log, "the log is not the one that would tell"
    assert PASSWORD not in host.log
    assert "SCRAM-SHA-256$" not in host.log
    assert send_passwords(host, {}).stdout == "", "the same password was set again"
    assert host.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'qtrade_client'") == verifier


def test_a_password_that_would_need_preparation_is_refused_and_not_shown(host: Host) -> None:
    done = send_passwords(host, {"postgres_readonly_password": "motörhead-forever"})
    assert done.returncode == 1
    assert "postgres_readonly_password" in done.stderr
    assert "rhead" not in done.stderr
    send_passwords(host, {"postgres_readonly_password": "-"})


def test_an_altered_migration_is_refused_before_anything_is_applied(host: Host, migrations: Path) -> None:
    before = applied(host)
    second = migrations / "0002_trading.sql"
    second.write_text(second.read_text() + "-- a word more\n")
    (migrations / "0004_next.sql").write_text("-- expand: next\nCREATE TABLE next (x integer);\n")
    done = host.python("migrate", check=False)
    assert done.returncode == 3
    assert "0002_trading was applied with another text" in done.stderr
    assert applied(host) == before


def test_a_failing_migration_leaves_nothing(host: Host, migrations: Path) -> None:
    before = applied(host)
    broken = "-- expand: fails\nCREATE TABLE half (x integer);\nINSERT INTO half VALUES ('no number');\n"
    (migrations / "0004_broken.sql").write_text(broken)
    done = host.python("migrate", check=False)
    assert done.returncode == 3
    assert applied(host) == before
    assert host.psql("SELECT to_regclass('half') IS NULL") == "t"


def test_an_older_image_goes_on_with_a_newer_schema(host: Host, migrations: Path) -> None:
    newer = "-- expand: a column that only newer clients know\nALTER TABLE trades ADD COLUMN tip_lamports bigint;\n"
    (migrations / "0004_tips.sql").write_text(newer)
    assert "applied 0004_tips" in host.python("migrate").stdout
    after = applied(host)
    (migrations / "0004_tips.sql").unlink()
    done = host.python("migrate")
    assert done.stdout == "left as it is: 0004_tips (expand), of a newer image\n"
    assert applied(host) == after
    host.psql("INSERT INTO trades (signature, state) VALUES ('s1', 'sent')", role=WRITERS)
    (migrations / "0004_tips.sql").write_text(newer)
    assert host.python("migrate").stdout == "", "the newer image came back and found its schema"


def test_a_migration_slipped_in_before_others_is_refused(host: Host, migrations: Path) -> None:
    (migrations / "0004_tips.sql").unlink(missing_ok=True)
    (migrations / "0005_last.sql").write_text("-- expand: last\nCREATE TABLE last (x integer);\n")
    host.python("migrate")
    done_before = applied(host)
    host.psql("DELETE FROM schema_migrations WHERE number = 4")
    (migrations / "0004_slipped.sql").write_text("-- expand: too late\nCREATE TABLE slipped (x integer);\n")
    done = host.python("migrate", check=False)
    assert done.returncode == 3
    assert "0004_slipped comes before migrations that were applied already" in done.stderr
    assert set(applied(host)) < set(done_before)


def test_a_first_run_that_broke_off_locks_nobody_out(host: Host) -> None:
    host.psql("REVOKE CONNECT ON DATABASE qtrade FROM qtrade_client; GRANT CONNECT ON DATABASE qtrade TO PUBLIC")
    host.python("migrate")
    may = "has_database_privilege('{}', 'qtrade', 'CONNECT')"
    assert host.psql(f"SELECT {may.format('qtrade_client')}, {may.format('qtrade_backup')}") == "t|f"


def test_two_at_once_take_turns(host: Host, migrations: Path) -> None:
    host.psql("DROP DATABASE qtrade", database="postgres")
    for name in ("0004_slipped.sql", "0005_last.sql"):
        (migrations / name).unlink(missing_ok=True)
    argv = [
        "chroot",
        f"--userspec={ACCOUNT}",
        str(host.root),
        "/usr/bin/python3",
        "-IB",
        "/usr/lib/qtrade/postgres/migrate.py",
    ]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    lines = [line for out, _ in outputs for line in out.splitlines() if line.startswith("applied")]
    assert lines == ["applied 0001_access", "applied 0002_trading", "applied 0003_partitions"]


def test_partitions_are_made_ahead_and_dropped_when_old(host: Host) -> None:
    wanted = host.psql(
        "SELECT to_char(now() AT TIME ZONE 'UTC' + n * interval '1 day', '\"quotes_\"YYYYMMDD') FROM generate_series(0, 3) n"
    )
    names = host.psql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relkind = 'r'"
    ).split()
    assert set(wanted.split()) < set(names)
    host.psql(
        "SET ROLE qtrade_owner;"
        "CREATE TABLE partitions.quotes_20240229 PARTITION OF quotes"
        " FOR VALUES FROM ('2024-02-29 00:00+00') TO ('2024-03-01 00:00+00');"
        "CREATE TABLE partitions.opportunities_20240201 PARTITION OF opportunities"
        " FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-03-01 00:00+00');"
        "UPDATE partition_rules SET keep_days = 0 WHERE parent = 'opportunities'"
    )
    options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname=qtrade")
    done = host.run("psql", *options, f"--file={SHARE}/maintain.sql")
    assert "dropped quotes_20240229" in done.stdout
    assert "opportunities" not in done.stdout, "0 days mean for ever"
    host.python("migrate")
    assert host.psql("SELECT keep_days FROM partition_rules WHERE parent = 'opportunities'") == "365"
    assert "dropped opportunities_20240201" in host.run("psql", *options, f"--file={SHARE}/maintain.sql").stdout


def test_maintenance_behind_a_long_read_holds_up_no_insert(host: Host) -> None:
    ahead = host.psql("SELECT 'quotes_' || to_char((now() + interval '2 days') AT TIME ZONE 'UTC', 'YYYYMMDD')")
    host.psql(f"DROP TABLE partitions.{ahead}")
    argv = ("chroot", f"--userspec={ACCOUNT}", str(host.root), "psql", "--no-psqlrc", "--quiet", "--dbname=qtrade")
    options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname=qtrade")
    with subprocess.Popen([*argv, "--file=-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin
        assert reader.stdout
        reader.stdin.write("BEGIN;\nSELECT 'reading' FROM (SELECT count(*) FROM quotes) AS rows;\n")
        reader.stdin.flush()
        assert any("reading" in line for line in reader.stdout)
        begun = time.monotonic()
        done = host.run("psql", *options, f"--file={SHARE}/maintain.sql", check=False)
        assert done.returncode == 3
        assert "lock timeout" in done.stderr
        assert time.monotonic() - begun < 5
        begun = time.monotonic()
        left = host.python("migrate")
        assert "lock timeout" in left.stderr
        assert "partitions are left to qtrade-postgres-maintain.timer" in left.stderr
        assert time.monotonic() - begun < 5
        reader.stdin.close()
        reader.stdout.read()
    assert f"made {ahead}" in host.run("psql", *options, f"--file={SHARE}/maintain.sql").stdout


def test_partitions_that_fail_otherwise_fail_the_migration(host: Host) -> None:
    rename = "ALTER FUNCTION {} RENAME TO {}"
    host.psql(rename.format("make_partitions()", "other"))
    done = host.python("migrate", check=False)
    host.psql(rename.format("other()", "make_partitions"))
    assert done.returncode == 3
    assert "no partitions were made" in done.stderr


def test_a_wrong_clock_stops_no_insert(host: Host) -> None:
    host.psql(POOL.format("a2"), role=WRITERS)
    row = "INSERT INTO quotes SELECT id, 1, 2, 3, '{}' FROM pools WHERE address = 'a2'"
    host.psql(row.format("2031-01-01 00:00+00"), role=WRITERS)
    assert host.psql("SELECT count(*) FROM partitions.quotes_default") == "1"
    ahead = "(now() + interval '3 days')"
    name = host.psql(f"SELECT 'quotes_' || to_char({ahead} AT TIME ZONE 'UTC', 'YYYYMMDD')")
    host.psql(f"DROP TABLE partitions.{name}")
    host.psql(row.replace("'{}'", ahead), role=WRITERS)
    done = host.python("migrate")
    assert "partitions.quotes_default holds rows" in done.stderr
    host.psql("DELETE FROM partitions.quotes_default")
    assert f"made {name}" in host.python("migrate").stdout
