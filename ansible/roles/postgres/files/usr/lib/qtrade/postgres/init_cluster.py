"""Make the cluster on the data disk when there is none, adopt one of this image's major version, refuse everything else.

What is found is never changed: only the half-made cluster of an earlier try is removed. `--beside` makes an empty cluster although
another one lies on the disk, which is a step on the way to another major version (docs/runbooks/postgres.md).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

SERVER = Path("/usr/share/qtrade/postgres/server.json")
TUNING = Path("/run/qtrade-postgres/tuning.conf")
MEMINFO = Path("/proc/meminfo")
MIB = 1024 * 1024
# What is made beside its place has this ending until it is whole.
UNFINISHED = ".new"
INITDB_OPTIONS = (
    "--auth-local=peer",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    # Sorts by code point without asking any library, whose next version would sort otherwise and break the indexes.
    "--locale=C.UTF-8",
    "--data-checksums",
    "--no-instructions",
)
# A sort order of the server's own, and one flush of the filesystem in place of one for each of a thousand files.
_SINCE_17 = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--sync-method=syncfs")
_BEFORE_17 = ("--locale-provider=libc", "--lc-collate=C")


class RefusedError(Exception):
    """The data disk holds something that this image must not touch."""


class Server(NamedTuple):
    """What was baked: the server's major version, where its cluster is, and its share of the memory."""

    major: str
    mount: Path
    data: Path
    percent: int
    max_mib: int

    def program(self, name: str, major: str = "") -> str:
        """Return the path of a program of the server, of this or another major version."""
        return f"/usr/lib/postgresql/{major or self.major}/bin/{name}"


class Found(NamedTuple):
    """What is at the cluster's place, and which other clusters lie beside it."""

    is_mounted: bool
    major: str
    is_whole: bool
    is_empty: bool
    others: tuple[tuple[Path, str], ...]


def read_server(path: Path = SERVER) -> Server:
    """Read what was baked."""
    fields: dict[str, Any] = json.loads(path.read_text())
    return Server(
        major=fields["major"],
        mount=Path(fields["data_mount"]),
        data=Path(fields["data_directory"]),
        percent=fields["shared_buffers_percent"],
        max_mib=fields["shared_buffers_max_mib"],
    )


def look(server: Server) -> Found:
    """Look at the data disk, and change nothing."""
    data = server.data
    version = data / "PG_VERSION"
    others = []
    for path in sorted(data.parent.parent.glob("*/*/PG_VERSION")):
        folder = path.parent
        if folder != data and not folder.name.endswith(UNFINISHED):
            others.append((folder, path.read_text().strip()))
    return Found(
        is_mounted=os.path.ismount(server.mount),
        major=version.read_text().strip() if version.is_file() else "",
        is_whole=(data / "global/pg_control").is_file(),
        is_empty=not data.exists() or (data.is_dir() and not any(data.iterdir())),
        others=tuple(others),
    )


def must_make(server: Server, found: Found, *, beside: bool = False) -> bool:
    """Say whether a cluster has to be made (else: it is adopted). Raises `RefusedError` with what to do."""
    if not found.is_mounted:
        raise RefusedError(f"{server.mount} is not mounted: a cluster there would be on the wrong disk")
    if found.major and found.major != server.major:
        raise RefusedError(explain_upgrade(server, server.data, found.major))
    if found.major and not found.is_whole:
        raise RefusedError(
            f"{server.data} has no global/pg_control, so it is no whole cluster: was a restore broken off? Run it again\n"
            f"  sudo -u postgres qtrade-postgres restore"
        )
    if found.major:
        return False
    if not found.is_empty:
        raise RefusedError(
            f"{server.data} is not empty and no cluster: look what it is, nothing is made or removed there"
        )
    if found.others and not beside:
        folder, major = found.others[0]
        if major != server.major:
            raise RefusedError(explain_upgrade(server, folder, major))
        raise RefusedError(
            f"{server.data} is empty, but {folder} holds a cluster of PostgreSQL {major}: an empty one would hide its data\n"
            f"To go on with it:              sudo -u postgres qtrade-postgres move {folder} {server.data}\n"
            "To restore from the backup:    sudo -u postgres qtrade-postgres restore\n"
            "To begin anew in spite of it:  sudo -u postgres qtrade-postgres make-empty"
        )
    return True


def explain_upgrade(server: Server, found: Path, major: str) -> str:
    """Return the ways from a cluster of another major version to this image's."""
    new, old = server.data, found
    away = ""
    if old == new:
        old = new.parents[1] / major / "main"
        away = f"\nFirst of all, it goes where it belongs:\n  sudo -u postgres qtrade-postgres move {new} {old}"
    return f"""{found} is a cluster of PostgreSQL {major}, this image has {server.major}.
Nothing was changed; the database stays down.{away}
Back to the image before, which still reads it:
  qtrade rollback --host HOST
With pg_upgrade, under an image that has both servers (`packages: [postgresql-{server.major}, postgresql-{major}, …]` in its recipe):
  sudo -u postgres qtrade-postgres make-empty
  sudo -u postgres qtrade-postgres upgrade --check {old}
  sudo -u postgres qtrade-postgres upgrade {old}
  sudo systemctl start qtrade-postgres-migrate.service
  sudo systemctl start qtrade-postgres-maintain.service
of which the first three run
  {server.program("initdb")} --pgdata={new} …
  {server.program("pg_upgrade")} --old-bindir=/usr/lib/postgresql/{major}/bin --new-bindir=/usr/lib/postgresql/{server.major}/bin \
--old-datadir={old} --new-datadir={new} --socketdir=/tmp [--check]
With pg_dump, slower, with one server at a time; under the image before:
  sudo -u postgres qtrade-postgres dump {server.mount}/postgresql/dump
then under this one:
  sudo -u postgres qtrade-postgres make-empty
  sudo systemctl start qtrade-postgres-migrate.service
  sudo -u postgres qtrade-postgres load {server.mount}/postgresql/dump
  sudo systemctl restart qtrade-postgres-migrate.service
  sudo systemctl start qtrade-postgres-maintain.service
docs/runbooks/postgres.md has all of it, and how to check the result before the old cluster is removed."""


def initdb_options(major: str) -> tuple[str, ...]:
    """Return how a cluster of a major version is made: the same encoding and order of sorting in all."""
    return (*INITDB_OPTIONS, *(_SINCE_17 if int(major) >= 17 else _BEFORE_17))


def make_cluster(server: Server) -> None:
    """Make the cluster beside its place and move it there whole: a power cut leaves none, never half a one."""
    data = server.data
    new = data.with_name(data.name + UNFINISHED)
    shutil.rmtree(new, ignore_errors=True)
    # With TZ, initdb need not compare the machine's zone with all that there are.
    subprocess.run(
        [server.program("initdb"), f"--pgdata={new}", *initdb_options(server.major)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TZ": "UTC"},
    )
    if data.exists():
        data.rmdir()
    new.rename(data)
    descriptor = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def render_tuning(memory_bytes: int, *, percent: int, max_mib: int) -> str:
    """Return the settings that follow from the host's memory: a small share, as the validator needs the rest."""
    shared = max(128, min(memory_bytes * percent // 100 // MIB, max_mib))
    values = {
        "shared_buffers": shared,
        # What the page cache may hold of our files: no more, since the validator fills it too.
        "effective_cache_size": 2 * shared,
        "maintenance_work_mem": max(64, min(shared // 8, 1024)),
        "autovacuum_work_mem": 64,
    }
    return "".join(f"{name} = {value}MB\n" for name, value in values.items())


def read_memory(meminfo: Path = MEMINFO) -> int:
    """Return the host's memory in bytes."""
    for line in meminfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    raise ValueError(f"{meminfo} has no MemTotal")


def main() -> None:
    """Exit 0 when there is a cluster to start; say why not otherwise."""
    server = read_server()
    try:
        has_to = must_make(server, look(server), beside="--beside" in sys.argv[1:])
    except RefusedError as refusal:
        sys.exit(str(refusal))
    if has_to:
        make_cluster(server)
    sys.stdout.write(f"{server.data}: {'made' if has_to else 'adopted'}\n")
    if TUNING.parent.is_dir():
        TUNING.write_text(render_tuning(read_memory(), percent=server.percent, max_mib=server.max_mib))


if __name__ == "__main__":
    main()
