"""The programs of the role postgres, as far as they decide without a server, and the units that run them."""

import base64
import hashlib
import hmac
import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

pytestmark = pytest.mark.unit

ROLE = Path(__file__).resolve().parents[3] / "ansible/roles/postgres"
LIBRARY = ROLE / "files/usr/lib/qtrade/postgres"
MIGRATIONS = ROLE / "files/usr/share/qtrade/postgres/migrations"
MIB = 1024 * 1024


class Module:
    """A program of the role, loaded without being run."""

    def __init__(self, path: Path) -> None:
        self.__dict__.update(runpy.run_path(str(path)))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def load(name: str) -> Module:
    return Module(LIBRARY / f"{name}.py")


init, migrate, passwords, backup = (load(name) for name in ("init_cluster", "migrate", "set_passwords", "backup_setup"))
admin = Module(ROLE / "files/usr/bin/qtrade-postgres")


# Migrations; their rules are in test_postgres_migrations.py


def test_the_script_checks_all_before_it_applies_any() -> None:
    script = migrate.render_script(migrate.read_migrations(MIGRATIONS), roles="-- roles\n", settings={"quotes": 7})
    check, first = script.index("was applied with another text"), script.index("\\echo applied 0001")
    assert script.index("pg_advisory_lock") < script.index("CREATE DATABASE") < check < first
    assert script.count("BEGIN;\nSET LOCAL lock_timeout") == len(list(MIGRATIONS.iterdir()))
    assert "SET keep_days = 7 WHERE parent = 'quotes'" in script


def test_who_may_connect_is_said_at_every_run_as_the_first_may_have_broken_off() -> None:
    """CREATE DATABASE has to stand alone, so what follows it is not part of it."""
    script = migrate.render_script([], roles="", settings={})
    assert script.index("CREATE DATABASE") < script.index("\\endif") < script.index("REVOKE ALL ON DATABASE")
    assert script.index("GRANT CONNECT ON DATABASE") < script.index("\\connect")


def test_nothing_is_migrated_before_recovery_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["18:05:00"] * 31 + ["18:06:00", ""]
    pauses: list[float] = []
    migrate.wait_for_writes(lambda: answers.pop(0), pauses.append)
    assert (answers, len(pauses)) == ([], 32)
    assert capsys.readouterr().err.count("waiting for the end of recovery") == 2
    pauses.clear()
    migrate.wait_for_writes(lambda: "", pauses.append)
    assert pauses == [], "no boot waits for a server that takes writes"


def test_a_recovery_without_end_fails_before_systemd_ends_it() -> None:
    pauses: list[float] = []
    with pytest.raises(TimeoutError, match="at 18:05:00"):
        migrate.wait_for_writes(lambda: "18:05:00", pauses.append, limit_s=60)
    assert sum(pauses) == 60
    (timeout,) = read_unit("qtrade-postgres-migrate")["TimeoutStartSec"]
    assert int(timeout.removesuffix("min")) * 60 > migrate.RECOVERY_LIMIT_S


# Passwords


def test_the_verifier_is_that_of_the_rfc() -> None:
    """RFC 7677, section 3: its salt, its password, and the server's signature that follows from them."""
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = passwords.make_verifier("pencil", salt)
    message = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    server_key = base64.b64decode(verifier.rpartition(":")[2])
    signature = hmac.new(server_key, message.encode(), hashlib.sha256).digest()
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    stored = base64.b64decode(verifier.split("$")[2].partition(":")[0])
    client = hmac.new(stored, message.encode(), hashlib.sha256).digest()
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client_key = bytes(a ^ b for a, b in zip(proof, client, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_a_verifier_fits_its_password_only() -> None:
    verifier = passwords.make_verifier("a-long-password", b"0123456789abcdef")
    assert passwords.fits("a-long-password", verifier)
    assert not passwords.fits("another-password", verifier)
    assert not passwords.fits("a-long-password", "md5abc")


def test_passwords_that_were_not_sent_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "postgres_client_password").write_text("a-long-password\n")
    (tmp_path / "postgres_metrics_password").write_text("-")
    assert passwords.read_passwords(tmp_path) == {"qtrade_client": "a-long-password"}


@pytest.mark.parametrize("value", ["short", "with a blank in it", "two\nlines-of-text", "motörhead-forever", "x" * 201])
def test_a_bad_password_is_refused_without_being_shown(value: str, tmp_path: Path) -> None:
    (tmp_path / "postgres_client_password").write_text(value)
    with pytest.raises(ValueError, match="secret postgres_client_password") as caught:
        passwords.read_passwords(tmp_path)
    assert value not in str(caught.value)


def test_a_verifier_is_kept_out_of_the_servers_log() -> None:
    change = passwords.render_change("qtrade_client", "SCRAM-SHA-256$x").splitlines()
    assert change[-1] == "ALTER ROLE qtrade_client PASSWORD 'SCRAM-SHA-256$x';"
    assert {line.split()[1] for line in change[:-1]} == {
        "log_statement",
        "log_min_duration_statement",
        "log_min_error_statement",
    }


# Cluster


SERVER = init.Server("17", Path("/mnt/data"), Path("/mnt/data/postgresql/17/main"), 2, 8192)
EMPTY = init.Found(is_mounted=True, major="", is_whole=False, is_empty=True, others=())


def test_an_empty_disk_gets_a_cluster_and_a_whole_one_is_adopted() -> None:
    assert init.must_make(SERVER, EMPTY)
    assert not init.must_make(SERVER, EMPTY._replace(major="17", is_whole=True, is_empty=False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_mounted": False}, "is not mounted"),
        ({"major": "16", "is_whole": True, "is_empty": False}, "is a cluster of PostgreSQL 16"),
        ({"major": "18", "is_whole": True, "is_empty": False}, "is a cluster of PostgreSQL 18"),
        ({"major": "17", "is_empty": False}, "no global/pg_control"),
        ({"is_empty": False}, "not empty and no cluster"),
        ({"others": ((Path("/mnt/data/postgresql/16/main"), "16"),)}, "16/main is a cluster of PostgreSQL 16"),
        ({"others": ((Path("/mnt/data/postgresql/17/main.before-1"), "17"),)}, "an empty one would hide its data"),
    ],
)
def test_everything_else_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(init.RefusedError, match=words):
        init.must_make(SERVER, EMPTY._replace(**changes))


def test_beside_makes_an_empty_cluster_but_over_nothing() -> None:
    other = ((Path("/mnt/data/postgresql/16/main"), "16"),)
    assert init.must_make(SERVER, EMPTY._replace(others=other), beside=True)
    with pytest.raises(init.RefusedError):
        init.must_make(SERVER, EMPTY._replace(major="16", is_empty=False), beside=True)


@pytest.mark.parametrize(("gib", "shared_mib"), [(1, 128), (64, 1310), (512, 8192), (2048, 8192)])
def test_a_small_share_of_the_memory_with_a_cap(gib: int, shared_mib: int) -> None:
    text = init.render_tuning(gib * 1024 * MIB, percent=2, max_mib=8192)
    values = dict(line.split(" = ") for line in text.splitlines())
    assert values["shared_buffers"] == f"{shared_mib}MB"
    assert values["effective_cache_size"] == f"{2 * shared_mib}MB"
    assert 64 <= int(values["maintenance_work_mem"].removesuffix("MB")) <= 1024


def test_memory_is_read(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:        1014012 kB\nMemFree: 5 kB\n")
    assert init.read_memory(tmp_path / "meminfo") == 1014012 * 1024


# Backups


def test_secrets_become_options_and_a_key_file(tmp_path: Path) -> None:
    (tmp_path / "postgres_backup_cipher").write_text("phrase\n")
    (tmp_path / "postgres_backup_sftp_key").write_text("-----BEGIN KEY-----\nx\n-----END KEY-----\n")
    (tmp_path / "postgres_backup_s3_key").write_text("-")
    files = backup.render_files(backup.read_secrets(tmp_path), Path("/run/x"))
    assert files["secrets.conf"] == "[global]\nrepo1-cipher-pass=phrase\nrepo1-sftp-private-key-file=/run/x/sftp_key\n"
    assert files["sftp_key"].endswith("-----END KEY-----\n")


def test_a_secret_cannot_bring_other_options_along(tmp_path: Path) -> None:
    (tmp_path / "postgres_backup_cipher").write_text("phrase\nrepo1-path=/etc")
    with pytest.raises(ValueError, match="postgres_backup_cipher is not one line") as caught:
        backup.render_files(backup.read_secrets(tmp_path), tmp_path)
    assert "phrase" not in str(caught.value)


def test_files_are_their_owners_only_and_old_keys_go(tmp_path: Path) -> None:
    backup.write_files({"secrets.conf": "a\n", "sftp_key": "b\n"}, tmp_path)
    backup.write_files({"secrets.conf": "c\n"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.conf"]
    assert (tmp_path / "secrets.conf").read_text() == "c\n"
    assert (tmp_path / "secrets.conf").stat().st_mode & 0o777 == 0o600


def admin_server(tmp_path: Path) -> Any:
    data = tmp_path / "postgresql/17/main"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")
    return admin.Server("17", data, "qtrade")


def test_a_restore_puts_the_cluster_aside_first(tmp_path: Path) -> None:
    server = admin_server(tmp_path)
    plan = admin.plan_restore(server, until="2026-11-23 18:05:00+00", label="", stamp="now")
    assert [str(step) for step in plan] == [
        f"mv {server.data} {server.data}.before-now",
        f"mkdir -m 0700 {server.data}",
        "/usr/bin/pgbackrest --stanza=main --type=time '--target=2026-11-23 18:05:00+00' --target-action=promote restore",
    ]


def test_what_a_drill_restores_archives_nothing_and_makes_no_backup(tmp_path: Path) -> None:
    server = admin_server(tmp_path)
    *_, last = admin.plan_restore(server, until="", label="", stamp="now", is_drill=True)
    assert str(last) == "/usr/bin/pgbackrest --stanza=main --archive-mode=off restore"
    settings = server.data / "postgresql.auto.conf"
    for text in ("", "# archive_mode = off\n", "archive_mode = 'on'\n"):
        settings.write_text(text)
        begin, backup, keep = admin.plan_backup(server, "full")
        assert [str(step).split()[-1] for step in (begin, backup)] == ["stanza-create", "backup"]
        assert str(keep).endswith(" info > /var/lib/qtrade-postgres/backups.json")
    settings.write_text("# by hand\narchive_mode = 'off'\n")
    with pytest.raises(admin.RefusedError, match="archives nothing"):
        admin.plan_backup(server, "full")


@pytest.mark.parametrize(("until", "label"), [("yesterday", ""), ("2026-11-23 18:05:00", ""), ("", "newest --delta")])
def test_a_target_that_is_none_is_refused(until: str, label: str, tmp_path: Path) -> None:
    with pytest.raises(admin.RefusedError):
        admin.plan_restore(admin_server(tmp_path), until=until, label=label, stamp="now")


def test_nothing_is_done_to_a_cluster_whose_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = admin_server(tmp_path)
    monkeypatch.chdir(server.data)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n")
    for plan in (
        lambda: admin.plan_restore(server, until="", label="", stamp="now"),
        lambda: admin.plan_move(server, server.data, server.root / "16/main"),
    ):
        with pytest.raises(admin.RefusedError, match="a server runs on"):
            plan()


def test_a_number_that_a_crash_left_behind_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = admin_server(tmp_path)
    left = server.data / "postmaster.pid"
    for text in ("", "x\n", f"{os.getpid()}\n{server.data}\n"):
        left.write_text(text)
        admin.refuse_running(server.data)

    def kill(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    admin.refuse_running(server.data)


def test_a_move_stays_among_the_clusters(tmp_path: Path) -> None:
    server = admin_server(tmp_path)
    plan = admin.plan_move(server, server.data, server.root / "16/main")
    assert [str(step) for step in plan][-1] == f"mv {server.data} {server.root}/16/main"
    for target in (tmp_path / "elsewhere", server.root / "16/../../x", server.data):
        with pytest.raises(admin.RefusedError):
            admin.plan_move(server, server.data, target)


def test_only_what_a_restore_put_aside_is_deleted(tmp_path: Path) -> None:
    server = admin_server(tmp_path)
    aside = server.data.with_name("main.before-20261123-180500")
    (aside / "base").mkdir(parents=True)
    with pytest.raises(admin.RefusedError, match="no whole cluster"):
        admin.plan_discard(server, aside)
    (server.data / "global").mkdir()
    (server.data / "global/pg_control").touch()
    outside = tmp_path / aside.name
    outside.mkdir()
    link = server.data.with_name("main.before-20261123-180501")
    link.symlink_to(server.data)
    for folder in (server.data, outside, aside / "base", server.root / "17/../17" / aside.name, link):
        with pytest.raises(admin.RefusedError):
            admin.plan_discard(server, folder)
    (step,) = admin.plan_discard(server, aside)
    assert str(step) == f"rm -r {aside}"
    step.do()
    assert not aside.exists()
    assert (server.data / "PG_VERSION").is_file()


def test_a_lock_that_another_one_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL that is being archived holds pgBackRest's lock for a moment; any other end counts at once."""
    monkeypatch.setattr(admin.time, "sleep", lambda _: None)
    count = 'echo >>"$0"; test "$(wc -l <"$0")" -ge 3 || exit'
    tries = tmp_path / "tries"
    admin.Run(("sh", "-c", f"{count} {admin.LOCKED}", str(tries))).do()
    assert tries.read_text().count("\n") == 3
    tries.unlink()
    with pytest.raises(subprocess.CalledProcessError):
        admin.Run(("sh", "-c", f"{count} 7", str(tries))).do()
    assert tries.read_text().count("\n") == 1
    monkeypatch.setitem(admin.Run.do.__globals__, "LOCKED_S", 0)
    with pytest.raises(subprocess.CalledProcessError):
        admin.Run(("sh", "-c", f"exit {admin.LOCKED}")).do()


def test_pg_upgrade_needs_the_old_server(tmp_path: Path) -> None:
    server = admin_server(tmp_path)
    old = server.root / "9.6/main"
    old.mkdir(parents=True)
    (old / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(admin.RefusedError, match=r"this image has no PostgreSQL 9\.6"):
        admin.plan_upgrade(server, old, only_check=True)
    with pytest.raises(admin.RefusedError, match="is no cluster below"):
        admin.plan_upgrade(server, tmp_path, only_check=True)


def test_programs_run_where_pg_upgrade_may_write(tmp_path: Path) -> None:
    server = admin_server(tmp_path)
    assert admin.find_working_folder(server) == server.root
    assert admin.find_working_folder(server._replace(data=tmp_path / "gone/17/main")) == Path("/")


# Units


def read_unit(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit of the role, rendered with its defaults."""
    values = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    template = (ROLE / f"templates/usr/lib/systemd/system/{name}.service.j2").read_text()
    lines = Environment(undefined=StrictUndefined, trim_blocks=True).from_string(template).render(values).splitlines()
    found: dict[str, list[str]] = {}
    for key, _, value in (line.partition("=") for line in lines if "=" in line and not line.startswith("#")):
        found.setdefault(key, []).extend(value.split())
    return found


@pytest.mark.parametrize("name", ["qtrade-postgres-maintain", "qtrade-postgres-backup@"])
def test_a_timer_starts_no_server_that_somebody_stopped(name: str) -> None:
    unit = read_unit(name)
    server = "postgresql@17-main.service"
    # Requires= of anything that needs the server would start it, and turn Requisite= into that (systemd #11422).
    assert unit["Requisite"] == [server]
    assert "Requires" not in unit
    assert {server, "qtrade-postgres-migrate.service"} <= set(unit["After"])
    assert not [wanted for wanted in unit.get("Wants", []) if "postgres" in wanted]


def test_partitions_wait_a_second_for_a_lock_and_try_again() -> None:
    assert "SET lock_timeout = '1s';" in (ROLE / "files/usr/share/qtrade/postgres/maintain.sql").read_text()
    unit = read_unit("qtrade-postgres-maintain")
    assert (unit["Restart"], unit["RestartSec"]) == (["on-failure"], ["1min"])
    assert (unit["StartLimitBurst"], unit["StartLimitIntervalSec"]) == (["30"], ["1h"]), "it has to end at some time"


# The major version


def test_the_major_version_stands_in_the_defaults_alone() -> None:
    """Everything else follows from postgres_major: units, paths, config, specs, and what other roles say of the server."""
    named = re.compile(r"postgresql[@/-]?1\d\b|\b1\d/main\b|pg_?1\d\b")
    for path in sorted(ROLE.parent.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and path.name != "README.md":
            assert not named.search(path.read_text()), path


def test_every_major_version_that_may_be_asked_for_is_honoured() -> None:
    option = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert option["postgres_major"]["choices"] == ["15", "16", "17"]
    assert {name: "--sync-method=syncfs" in init.initdb_options(name) for name in ("15", "16", "17")} == {
        "15": False,
        "16": False,
        "17": True,
    }
