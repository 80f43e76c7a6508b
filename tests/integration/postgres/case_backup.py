"""Backups with the real pgBackRest: to an encrypted repository, back to a point in time, and what a dead repository does."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

from tests.integration.postgres.conftest import ACCOUNT, SHARE, Host

pytestmark = pytest.mark.integration

TEMPLATES = Path(__file__).resolve().parents[3] / "ansible/roles/postgres/config/templates/postgres"
BUNDLE = "/run/qtrade/state/config/current/postgres"
CREDENTIALS = "/run/credentials-of-the-test"
REPOSITORY = "/mnt/repository"
PASS_PHRASE = "correct-horse-battery-staple"
VALUES = {
    "postgres_shared_buffers": "",
    "postgres_effective_cache_size": "",
    "postgres_work_mem": "8MB",
    "postgres_max_connections": 40,
    "postgres_synchronous_commit": True,
    "postgres_backup_repository": {"type": "sftp", "path": REPOSITORY},
    "postgres_backup_keep_full": 2,
}


def own_folder(host: Host, inside: str) -> Path:
    folder = host.path(inside)
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, 402, 402)
    return folder


@pytest.fixture(scope="module")
def kept(bare: Host) -> Iterator[Host]:
    """A host with config and secrets of a repository, its server running."""
    bare.mount()
    bundle = own_folder(bare, BUNDLE)
    jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True)
    for template in TEMPLATES.iterdir():
        text = jinja.from_string(template.read_text()).render(VALUES)
        (bundle / template.stem).write_text(text.replace("repo1-type=sftp", "repo1-type=posix"))  # which no host may
    own_folder(bare, REPOSITORY)
    (own_folder(bare, CREDENTIALS) / "postgres_backup_cipher").write_text(PASS_PHRASE + "\n")
    bare.python("backup_setup", env={"CREDENTIALS_DIRECTORY": CREDENTIALS})
    bare.python("init_cluster")
    bare.start()
    bare.python("migrate")
    yield bare
    if bare.server:
        bare.kill()
    bare.unmount()


def admin(host: Host, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return host.run("/usr/bin/qtrade-postgres", *arguments, check=check)


def trade(host: Host, signature: str) -> None:
    host.psql(f"INSERT INTO trades (signature, state) VALUES ('{signature}', 'sent')", role="qtrade_client")


def signatures(host: Host) -> set[str]:
    return set(host.psql("SELECT signature FROM trades").split())


def wait_for(host: Host, sql: str, wanted: str, *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while (found := host.psql(sql)) != wanted:
        assert time.monotonic() < deadline, f"{sql}: {found}\n{host.log[-3000:]}"
        time.sleep(0.3)


def hold_up(host: Host, pause_s: int) -> None:
    """Make what follows consistency take a while: from there on the server is ready, and reads only."""
    settings = host.path(f"{host.data}/postgresql.auto.conf")
    text = settings.read_text()
    settings.write_text(f"{text}\nrecovery_end_command = 'sleep {pause_s}'\n")


def test_secrets_are_the_servers_own_and_in_ram(kept: Host) -> None:
    path = kept.path("/run/qtrade-postgres-backup/secrets.conf")
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, 402)
    assert path.read_text() == f"[global]\nrepo1-cipher-pass={PASS_PHRASE}\n"
    assert PASS_PHRASE not in kept.path(f"{BUNDLE}/pgbackrest.conf").read_text()


def test_the_host_turned_archiving_on(kept: Host) -> None:
    assert kept.psql("SHOW archive_command") == "/usr/lib/qtrade/postgres/pgbackrest-archive %p"
    assert kept.psql("SHOW max_connections") == "40"


def test_restore_to_a_point_in_time(kept: Host) -> None:
    trade(kept, "before-the-backup")
    record = kept.path("/var/lib/qtrade-postgres/backups.json")
    assert not record.exists()
    begun = int(time.time())
    admin(kept, "backup", "full")
    (backup,) = json.loads(record.read_text())[0]["backup"]
    assert backup["timestamp"]["stop"] >= begun
    assert not backup["error"]
    assert PASS_PHRASE not in record.read_text()
    admin(kept, "check")
    time.sleep(1.5)  # pgBackRest takes a backup's end to the second
    trade(kept, "after-the-backup")
    moment = kept.psql("SELECT clock_timestamp()")
    time.sleep(1)
    trade(kept, "too-late")
    kept.psql("DELETE FROM trades WHERE signature = 'before-the-backup'")
    kept.psql("SELECT pg_switch_wal()")
    wait_for(
        kept,
        "SELECT count(*) FROM pg_stat_archiver WHERE last_archived_wal >= (SELECT pg_walfile_name(pg_current_wal_lsn() - 1))",
        "1",
    )
    refused = admin(kept, "restore", check=False)
    assert refused.returncode == 1
    assert "a server runs on" in refused.stderr
    kept.kill()
    shutil.rmtree(kept.path(kept.data))
    assert "no time like" in admin(kept, "restore", "--time", "yesterday", check=False).stderr
    admin(kept, "restore", "--time", moment)
    hold_up(kept, 3)
    kept.start()
    migrated = kept.python("migrate")
    assert migrated.stdout == ""
    assert "waiting for the end of recovery" in migrated.stderr
    assert signatures(kept) == {"before-the-backup", "after-the-backup"}
    assert "adopted" in kept.python("init_cluster").stdout


def test_backups_go_on_after_a_restore_and_the_old_cluster_is_kept(kept: Host) -> None:
    trade(kept, "on-the-new-timeline")
    admin(kept, "backup", "diff")
    trade(kept, "last")
    kept.stop()
    dry = admin(kept, "--dry-run", "restore").stderr
    assert "--stanza=main restore" in dry
    assert kept.path(f"{kept.data}/PG_VERSION").is_file()
    admin(kept, "restore")
    aside = [path.name for path in kept.path(kept.data).parent.iterdir()]
    assert len([name for name in aside if name.startswith("main.before-")]) == 1
    kept.start()
    wait_for(kept, "SELECT pg_is_in_recovery()", "f")
    assert signatures(kept) >= {"before-the-backup", "after-the-backup", "on-the-new-timeline", "last"}
    assert "full backup" in admin(kept, "list").stdout
    assert "diff backup" in admin(kept, "list").stdout


def test_what_leaves_the_host_is_encrypted(kept: Host) -> None:
    files = [path for path in kept.path(REPOSITORY).rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 5
    for path in files:
        assert path.read_bytes()[:8] == b"Salted__", path


def test_pgbackrest_itself_gives_up_what_waits_too_long(kept: Host) -> None:
    """At once: of a repository that hangs, the script beside it learns after a timeout, segment by segment."""
    config = kept.path("/etc/pgbackrest/pgbackrest.conf")
    text, known = config.read_text(), len(kept.log)
    config.write_text(text.replace("archive-push-queue-max=4096MiB", "archive-push-queue-max=32MiB"))
    kept.path(REPOSITORY).rename(kept.path(f"{REPOSITORY}.gone"))
    kept.path(REPOSITORY).write_text("no folder")
    for number in range(6):
        trade(kept, f"while-it-hangs-{number}")
        kept.psql("SELECT pg_switch_wal()")
    wait_for(kept, "SELECT count(*) <= 3 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'", "t", within_s=150)
    assert "dropped WAL file" in kept.log[known:]
    assert "is dropped, as" not in kept.log[known:]
    kept.path(REPOSITORY).unlink()
    kept.path(f"{REPOSITORY}.gone").rename(kept.path(REPOSITORY))
    config.write_text(text)


def test_a_dead_repository_fills_no_disk_and_stops_no_trade(kept: Host) -> None:
    baked = kept.path(f"{SHARE}/server.json")
    text = baked.read_text()
    baked.write_text(text.replace('"backup_queue_mib": 4096', '"backup_queue_mib": 32'))
    assert json.loads(baked.read_text())["backup_queue_mib"] == 32
    kept.path(REPOSITORY).rename(kept.path(f"{REPOSITORY}.gone"))
    kept.path(REPOSITORY).write_text("no folder")
    for number in range(6):
        trade(kept, f"while-it-is-gone-{number}")
        kept.psql("SELECT pg_switch_wal()")
    waiting = "SELECT count(*) <= 3 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    wait_for(kept, waiting, "t", within_s=150)
    assert "is dropped, as" in kept.log
    assert len({name for name in signatures(kept) if name.startswith("while-it-is-gone")}) == 6
    record = kept.path("/var/lib/qtrade-postgres/backups.json")
    before = record.read_text()
    assert admin(kept, "backup", "full", check=False).returncode == 1
    assert record.read_text() == before, "a backup that failed is none"
    baked.write_text(text)


def test_a_new_backup_closes_the_gap(kept: Host) -> None:
    kept.path(REPOSITORY).unlink()
    kept.path(f"{REPOSITORY}.gone").rename(kept.path(REPOSITORY))
    trade(kept, "it-is-back")
    admin(kept, "backup", "full")
    kept.stop()
    admin(kept, "restore")
    kept.start()
    wait_for(kept, "SELECT pg_is_in_recovery()", "f")
    assert "it-is-back" in signatures(kept)


def test_a_drill_leaves_the_repository_alone(kept: Host) -> None:
    kept.stop()
    admin(kept, "restore", "--drill")
    kept.start()
    wait_for(kept, "SELECT pg_is_in_recovery()", "f")
    assert kept.psql("SHOW archive_mode") == "off"
    assert "it-is-back" in signatures(kept)
    before = kept.fingerprint(REPOSITORY)
    trade(kept, "in-the-drill")
    kept.psql("SELECT pg_switch_wal()")
    assert "archives nothing" in admin(kept, "backup", "full", check=False).stderr
    kept.stop()
    assert kept.fingerprint(REPOSITORY) == before
    admin(kept, "restore")
    kept.start()
    wait_for(kept, "SELECT pg_is_in_recovery()", "f")
    assert kept.psql("SHOW archive_mode") == "on"
    assert "in-the-drill" not in signatures(kept)


def test_what_restores_put_aside_can_be_discarded(kept: Host) -> None:
    aside = sorted(path.name for path in kept.path(kept.data).parent.glob("main.before-*"))
    assert aside
    assert "was not put aside" in admin(kept, "discard", kept.data, check=False).stderr
    for name in aside:
        admin(kept, "discard", f"{Path(kept.data).parent}/{name}")
    assert [path.name for path in kept.path(kept.data).parent.iterdir()] == ["main"]
    assert "it-is-back" in signatures(kept)


def test_the_pass_phrase_is_in_no_log(kept: Host) -> None:
    assert "pgbackrest-archive" in kept.log
    assert PASS_PHRASE not in kept.log


def test_dump_and_load_the_way_of_a_new_major_version(kept: Host) -> None:
    folder = f"{Path(kept.data).parent.parent}/dump"
    before = signatures(kept)
    admin(kept, "dump", folder)
    kept.stop()
    old = kept.data.replace("/main", "/old")
    admin(kept, "move", kept.data, old)
    assert "an empty one would hide its data" in kept.python("init_cluster", check=False).stderr
    admin(kept, "make-empty")
    assert "Clusters are compatible" in admin(kept, "upgrade", "--check", old).stdout
    kept.start()
    kept.python("migrate")
    trade(kept, "in-the-way")
    assert "there are trades" in admin(kept, "load", folder, check=False).stderr
    kept.psql("TRUNCATE trades")
    admin(kept, "load", folder)
    assert signatures(kept) == before
    assert kept.python("migrate").stdout == ""
    trade(kept, "after-the-load")
    assert kept.path(f"{old}/PG_VERSION").is_file()


def test_only_the_servers_account_may(kept: Host) -> None:
    done = kept.run("/usr/bin/qtrade-postgres", "list", account="1000:37", check=False)
    assert done.returncode == 1
    assert "run it as postgres" in done.stderr
    assert ACCOUNT == "402:402"
