"""Backups with the real pgBackRest: to an encrypted repository, back to a point in time, and what a dead repository does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.postgres.backups import (
    BUNDLE,
    PASS_PHRASE,
    admin,
    back_up,
    configure,
    own_folder,
    restore,
    signatures,
    trade,
    wait_for,
)
from tests.integration.postgres.conftest import ACCOUNT, SHARE, Host

pytestmark = pytest.mark.integration

REPOSITORY = "/mnt/repository"


@pytest.fixture(scope="module")
def kept(bare: Host) -> Iterator[Host]:
    """A host with config and secrets of a repository, its server running."""
    bare.mount()
    own_folder(bare, REPOSITORY)
    configure(bare, {"type": "s3", "path": REPOSITORY}, {})
    config = bare.path(f"{BUNDLE}/pgbackrest.conf")
    # A folder, which no host may name, so that it can vanish and hang; case_repositories has the real ones.
    config.write_text(config.read_text().replace("repo1-type=s3", "repo1-type=posix"))
    bare.python("init_cluster")
    bare.start()
    bare.python("migrate")
    yield bare
    if bare.server:
        bare.kill()
    bare.unmount()


def test_secrets_are_the_servers_own_and_in_ram(kept: Host) -> None:
    path = kept.path("/run/qtrade-postgres-backup/secrets.conf")
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, 402)
    assert path.read_text() == f"[global]\nrepo1-cipher-pass={PASS_PHRASE}\n"
    assert PASS_PHRASE not in kept.path(f"{BUNDLE}/pgbackrest.conf").read_text()


def test_the_host_turned_archiving_on(kept: Host) -> None:
    assert kept.psql("SHOW archive_command") == "/usr/lib/qtrade/postgres/pgbackrest-archive %p"
    assert kept.psql("SHOW max_connections") == "40"


def test_restore_to_a_point_in_time(kept: Host) -> None:
    moment = back_up(kept)
    refused = admin(kept, "restore", check=False)
    assert refused.returncode == 1
    assert "a server runs on" in refused.stderr
    assert "no time like" in admin(kept, "restore", "--time", "yesterday", check=False).stderr
    restore(kept, moment)


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
