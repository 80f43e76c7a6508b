"""What postgres promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

TABLES = {"opportunities", "trades", "quotes", "pools", "schema_migrations", "partition_rules"}
# Debian's psql takes the port of the cluster, as people on the host do.
PSQL = "psql --no-psqlrc --tuples-only --no-align --username=qtrade_readonly --dbname=qtrade --command"
UNITS = "/usr/lib/systemd/system"
WANTED = [
    "postgresql.service",
    "qtrade-postgres-migrate.service",
    "qtrade-postgres-passwords.service",
    "qtrade-postgres-maintain.timer",
]
WANTED_FOR_BACKUPS = [
    "qtrade-postgres-backup-setup.service",
    "qtrade-postgres-backup-full.timer",
    "qtrade-postgres-backup-diff.timer",
]


def server(host: Host) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(host.file("/usr/share/qtrade/postgres/server.json").content_string)
    return fields


def declared_port(host: Host) -> int:
    """Return the port that the role declares."""
    found = json.loads(host.file("/usr/share/qtrade/interfaces.d/postgres.json").content_string)["interfaces"]
    return int(next(one["port"] for one in found if one["name"] == "postgres"))


def has_backups(host: Host) -> bool:
    return "archive_mode = on" in host.file("/etc/postgresql/qtrade/postgresql.conf").content_string


@pytest.mark.layer
@pytest.mark.booted
def test_server_is_the_minor_version_that_was_asked_for(host: Host) -> None:
    wanted = server(host)
    assert wanted["version"].startswith(f"{wanted['major']}.")
    said = host.check_output(f"/usr/lib/postgresql/{wanted['major']}/bin/postgres --version")
    assert said.split()[2] == wanted["version"]
    assert host.package(f"postgresql-{wanted['major']}").version == wanted["package"]


@pytest.mark.layer
def test_no_cluster_and_no_key_is_baked(host: Host) -> None:
    assert not host.file(f"/var/lib/postgresql/{server(host)['major']}").exists
    assert host.run("find / -xdev -name PG_VERSION -path '*/main/*'").stdout == ""
    assert not host.file("/etc/ssl/private/ssl-cert-snakeoil.key").exists
    assert not host.file("/etc/ssl/certs/ssl-cert-snakeoil.pem").exists
    assert host.check_output("find /etc/ssl/certs -xtype l") == ""


@pytest.mark.layer
def test_config_is_local_and_strict(host: Host) -> None:
    wanted = server(host)
    path = f"/etc/postgresql/{wanted['major']}/main/postgresql.conf"
    for name, value in {
        "data_directory": wanted["data_directory"],
        "listen_addresses": "127.0.0.1",
        "port": str(declared_port(host)),
        "ssl": "off",
        "password_encryption": "scram-sha-256",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "logging_collector": "off",
    }.items():
        ask = f"/usr/lib/postgresql/{wanted['major']}/bin/postgres -C {name} --config-file={path}"
        assert host.check_output(ask) == value, name
    access = host.file("/etc/postgresql/qtrade/pg_hba.conf")
    assert (access.group, access.mode) == ("postgres", 0o640)
    lines = [line.split() for line in access.content_string.splitlines() if line and not line.startswith("#")]
    assert {(line[0], line[-1] if line[0] == "host" else line[3]) for line in lines} == {
        ("local", "peer"),
        ("host", "scram-sha-256"),
    }
    assert {line[3] for line in lines if line[0] == "host"} == {"127.0.0.1/32"}


@pytest.mark.layer
def test_migrations_follow_their_rules(host: Host) -> None:
    """What an older image would not survive is refused here, and not first at the boot that would apply it."""
    read = "runpy.run_path('/usr/lib/qtrade/postgres/migrate.py')['read_migrations']"
    folder = "pathlib.Path('/usr/share/qtrade/postgres/migrations')"
    done = host.run(f'python3 -IBc "import pathlib, runpy; print(len({read}({folder})))"')
    assert done.succeeded, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.layer
def test_units_are_enabled(host: Host) -> None:
    for unit in [*WANTED, *(WANTED_FOR_BACKUPS if has_backups(host) else [])]:
        assert host.check_output(f"systemctl is-enabled {unit}") == "enabled", unit


@pytest.mark.layer
def test_units_are_understood(host: Host) -> None:
    """Systemd itself reads them; what it says of units of others is not ours."""
    paths = host.check_output(f"ls -d {UNITS}/qtrade-postgres-*.service {UNITS}/qtrade-postgres-*.timer").split()
    paths = [path.replace("backup@.service", "backup@full.service") for path in paths]
    done = host.run(f"systemd-analyze verify --man=no --recursive-errors=no {' '.join(paths)}")
    assert [line for line in done.stderr.splitlines() if "postgres" in line] == []


@pytest.mark.layer
def test_server_waits_for_the_data_disk(host: Host) -> None:
    mount = server(host)["data_mount"]
    for path in (
        "/etc/systemd/system/postgresql@.service.d/10-qtrade.conf",
        f"{UNITS}/qtrade-postgres-init.service",
    ):
        text = host.file(path).content_string
        assert f"RequiresMountsFor={mount}\n" in text
        assert f"AssertPathIsMountPoint={mount}\n" in text


@pytest.mark.layer
def test_inputs_name_the_servers_unit(host: Host) -> None:
    inputs = json.loads(host.file("/usr/lib/qtrade/inputs.d/postgres.json").content_string)
    units = {unit["name"] for file in inputs["files"] for unit in file["units"]}
    assert f"postgresql@{server(host)['major']}-main.service" in units


@pytest.mark.layer
def test_operator_acts_as_the_server_and_not_as_root(host: Host) -> None:
    rules = host.file("/etc/sudoers.d/20-qtrade-postgres")
    assert rules.mode == 0o440
    assert "operator ALL = (postgres) NOPASSWD: /usr/bin/qtrade-postgres\n" in rules.content_string
    assert host.run(
        "sudo -l -U operator -u postgres /usr/lib/qtrade/postgres/bench.py --rate 50 --seconds 60"
    ).succeeded
    for wrong in ("--rate 50", "--rate 50 --seconds 60 --rate 9", "--rate x --seconds 60"):
        assert host.run(f"sudo -l -U operator -u postgres /usr/lib/qtrade/postgres/bench.py {wrong}").failed
    assert "(root) NOPASSWD: ALL" not in rules.content_string


@pytest.mark.layer
def test_the_agent_drains_by_the_unit(host: Host) -> None:
    program = host.file("/usr/lib/qtrade/drain.d/60-postgres")
    assert program.mode == 0o755
    unit = f"postgresql@{server(host)['major']}-main.service"
    assert program.contains(f'^exec /usr/lib/qtrade/bare_metal/drain-unit {unit} "$@"$')


@pytest.mark.layer
def test_backups_wait_for_the_host(host: Host) -> None:
    if not has_backups(host):
        pytest.skip("this image makes no backups")
    assert host.check_output("pgbackrest version").startswith("pgBackRest 2.")
    target = host.check_output("readlink /etc/pgbackrest/conf.d/host.conf")
    assert target == "/run/qtrade/state/config/current/postgres/pgbackrest.conf"
    assert not host.file("/etc/pgbackrest.conf").exists
    assert f"pg1-path={server(host)['data_directory']}\n" in host.file("/etc/pgbackrest/pgbackrest.conf").content_string
    assert host.file("/usr/lib/qtrade/postgres/pgbackrest-archive").mode == 0o755


@pytest.mark.host
def test_server_runs_on_loopback_only(host: Host) -> None:
    assert host.service(f"postgresql@{server(host)['major']}-main").is_running
    port = declared_port(host)
    addresses = [line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()]
    assert [address for address in addresses if address.endswith(f":{port}")] == [f"127.0.0.1:{port}"]


@pytest.mark.host
def test_tables_are_there(host: Host) -> None:
    rows = [line.split("|") for line in host.check_output(f"{PSQL} 'TABLE pg_tables'").splitlines()]
    assert {name for schema, name, *_ in rows if schema == "public"} == TABLES
    assert {name for schema, name, *_ in rows if schema == "partitions"} >= {"quotes_default", "opportunities_default"}


@pytest.mark.host
def test_partitions_are_ahead(host: Host) -> None:
    ask = "SELECT 'partitions.quotes_' || to_char(now() AT TIME ZONE 'UTC' + '1 day', 'YYYYMMDD')"
    name = host.check_output(f'{PSQL} "{ask}"')
    assert host.check_output(f"{PSQL} \"SELECT to_regclass('{name}')\"") == name


@pytest.mark.host
def test_operator_reads_and_writes_nothing(host: Host) -> None:
    assert host.run(f"{PSQL} 'TABLE trades'").succeeded
    assert host.run(f"{PSQL} 'TRUNCATE trades'").failed
    writable = "SET default_transaction_read_only = off"
    assert host.run(f"{PSQL} '{writable}' --command 'TRUNCATE quotes'").failed


@pytest.mark.host
def test_cluster_is_on_the_data_disk_and_checked(host: Host) -> None:
    wanted = server(host)
    for name, value in {
        "data_directory": wanted["data_directory"],
        "server_version": wanted["version"],
        "data_checksums": "on",
        "fsync": "on",
        "huge_pages": "off",
    }.items():
        assert host.check_output(f"{PSQL} 'SHOW {name}'").split()[0] == value, name


@pytest.mark.host
def test_server_logs_to_the_journal_and_leaves_memory(host: Host) -> None:
    unit = f"postgresql@{server(host)['major']}-main.service"
    assert "database system is ready" in host.check_output(f"journalctl --unit={unit} --boot --no-pager --quiet")
    facts = dict(
        line.split("=", 1)
        for line in host.check_output(
            f"systemctl show --property=MemoryMax,OOMScoreAdjust,Type,NoNewPrivileges {unit}"
        ).splitlines()
    )
    assert facts["MemoryMax"] != "infinity"
    assert (facts["OOMScoreAdjust"], facts["Type"], facts["NoNewPrivileges"]) == ("-900", "notify", "yes")
