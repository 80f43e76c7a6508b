"""What the cases about backups share: a host's config and secrets of a repository, and a restore to a point in time."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from tests.integration.postgres.conftest import Host

TEMPLATES = Path(__file__).resolve().parents[3] / "ansible/roles/postgres/config/templates/postgres"
BUNDLE = "/run/qtrade/state/config/current/postgres"
CREDENTIALS = "/run/credentials-of-the-test"
PASS_PHRASE = "correct-horse-battery-staple"
VALUES = {
    "postgres_shared_buffers": "",
    "postgres_effective_cache_size": "",
    "postgres_work_mem": "8MB",
    "postgres_max_connections": 40,
    "postgres_synchronous_commit": True,
    "postgres_backup_keep_full": 2,
}


def own_folder(host: Host, inside: str) -> Path:
    folder = host.path(inside)
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, 402, 402)
    return folder


def configure(host: Host, repository: dict[str, Any], secrets: dict[str, str]) -> None:
    """Write the host's config as a push renders it, and its secrets as the role's own program lays them out."""
    bundle = own_folder(host, BUNDLE)
    jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True)
    for template in TEMPLATES.iterdir():
        text = jinja.from_string(template.read_text()).render(VALUES, postgres_backup_repository=repository)
        (bundle / template.stem).write_text(text)
    credentials = own_folder(host, CREDENTIALS)
    for name, value in {"postgres_backup_cipher": PASS_PHRASE, **secrets}.items():
        (credentials / name).write_text(value + "\n")
    host.python("backup_setup", env={"CREDENTIALS_DIRECTORY": CREDENTIALS})


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


def back_up(host: Host) -> str:
    """Make a full backup after one trade, write another, and return the moment before what must not be restored."""
    trade(host, "before-the-backup")
    record = host.path("/var/lib/qtrade-postgres/backups.json")
    assert not record.exists()
    begun = int(time.time())
    admin(host, "backup", "full")
    (backup,) = json.loads(record.read_text())[0]["backup"]
    assert backup["timestamp"]["stop"] >= begun
    assert not backup["error"]
    assert PASS_PHRASE not in record.read_text()
    admin(host, "check")
    time.sleep(1.5)  # pgBackRest takes a backup's end to the second
    trade(host, "after-the-backup")
    moment = host.psql("SELECT clock_timestamp()")
    time.sleep(1)
    trade(host, "too-late")
    host.psql("DELETE FROM trades WHERE signature = 'before-the-backup'")
    host.psql("SELECT pg_switch_wal()")
    archived = "last_archived_wal >= (SELECT pg_walfile_name(pg_current_wal_lsn() - 1))"
    wait_for(host, f"SELECT count(*) FROM pg_stat_archiver WHERE {archived}", "1")
    return moment


def restore(host: Host, moment: str) -> None:
    """Lose the cluster, restore it to the moment, and see that it has what it had then."""
    host.kill()
    shutil.rmtree(host.path(host.data))
    admin(host, "restore", "--time", moment)
    hold_up(host, 3)
    host.start()
    migrated = host.python("migrate")
    assert migrated.stdout == ""
    assert "waiting for the end of recovery" in migrated.stderr
    assert signatures(host) == {"before-the-backup", "after-the-backup"}
    assert "adopted" in host.python("init_cluster").stdout
