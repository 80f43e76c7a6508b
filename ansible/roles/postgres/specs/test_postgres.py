"""What postgres promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

TABLES = {"opportunities", "trades", "quotes", "pools", "schema_migrations"}
PSQL = "psql --no-psqlrc --tuples-only --no-align --username=qtrade_readonly --dbname=qtrade --command"


@pytest.mark.layer
@pytest.mark.booted
def test_server_is_17(host: Host) -> None:
    assert host.check_output("/usr/lib/postgresql/17/bin/postgres --version").startswith("postgres (PostgreSQL) 17.")


@pytest.mark.layer
def test_no_cluster_and_no_key_is_baked(host: Host) -> None:
    assert not host.file("/var/lib/postgresql/17").exists
    assert not host.file("/etc/ssl/private/ssl-cert-snakeoil.key").exists
    assert not host.file("/etc/ssl/certs/ssl-cert-snakeoil.pem").exists
    assert host.check_output("find /etc/ssl/certs -xtype l") == ""


@pytest.mark.layer
def test_config_is_local_and_strict(host: Host) -> None:
    config = host.file("/etc/postgresql/17/main/postgresql.conf")
    for line in ("data_directory = '/mnt/data/postgresql/17/main'", "listen_addresses = '127.0.0.1'", "ssl = off"):
        assert line in config.content_string
    access = host.file("/etc/postgresql/17/main/pg_hba.conf")
    assert (access.group, access.mode) == ("postgres", 0o640)
    assert "trust" not in access.content_string
    assert "0.0.0.0" not in access.content_string  # noqa: S104


@pytest.mark.layer
@pytest.mark.parametrize("unit", ["postgresql.service", "qtrade-postgres-migrate.service"])
def test_unit_is_enabled(host: Host, unit: str) -> None:
    assert host.check_output(f"systemctl is-enabled {unit}") == "enabled"


@pytest.mark.layer
def test_server_waits_for_the_data_disk(host: Host) -> None:
    for path in ("postgresql@17-main.service.d/10-qtrade.conf",):
        drop_in = host.file(f"/etc/systemd/system/{path}").content_string
        assert "RequiresMountsFor=/mnt/data" in drop_in
        assert "AssertPathIsMountPoint=/mnt/data" in drop_in


@pytest.mark.host
def test_server_runs_on_loopback_only(host: Host) -> None:
    assert host.service("postgresql@17-main").is_running
    assert host.socket("tcp://127.0.0.1:5432").is_listening
    assert not host.socket("tcp://0.0.0.0:5432").is_listening


@pytest.mark.host
def test_tables_are_there(host: Host) -> None:
    rows = [line.split("|") for line in host.check_output(f"{PSQL} 'TABLE pg_tables'").splitlines()]
    assert {name for schema, name, *_ in rows if schema == "public"} == TABLES


@pytest.mark.host
def test_operator_reads_and_writes_nothing(host: Host) -> None:
    assert host.run(f"{PSQL} 'TABLE trades'").succeeded
    assert host.run(f"{PSQL} 'TRUNCATE trades'").failed


@pytest.mark.host
def test_cluster_is_on_the_data_disk_and_checked(host: Host) -> None:
    assert host.check_output(f"{PSQL} 'SHOW data_directory'") == "/mnt/data/postgresql/17/main"
    assert host.check_output(f"{PSQL} 'SHOW data_checksums'") == "on"
    assert host.check_output(f"{PSQL} 'SHOW fsync'") == "on"
