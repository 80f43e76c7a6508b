"""What is done with the data disk: made, adopted, or refused and left alone."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.postgres.conftest import ACCOUNT, MOUNT, Host

pytestmark = pytest.mark.integration


@pytest.fixture
def disk(bare: Host) -> Iterator[Host]:
    bare.mount()
    yield bare
    bare.unmount()


def put(host: Host, folder: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = host.path(f"{folder}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(["chown", "-R", ACCOUNT, host.path(f"{MOUNT}/postgresql")], check=True)


def refusal(host: Host, *arguments: str) -> str:
    """Return why it was refused, and see that nothing on the disk was changed."""
    before = host.fingerprint(MOUNT)
    done = host.python("init_cluster", *arguments, check=False)
    assert done.returncode == 1, done.stdout
    assert host.fingerprint(MOUNT) == before
    return done.stderr


def test_nothing_is_made_without_the_disk(bare: Host) -> None:
    bare.path(MOUNT).mkdir(parents=True, exist_ok=True)
    bare.make_folders()
    assert "/mnt/data is not mounted" in refusal(bare)
    assert not bare.path(bare.data).exists()


def test_an_unknown_folder_is_refused(disk: Host) -> None:
    put(disk, disk.data, {"notes.txt": "precious"})
    assert "is not empty and no cluster" in refusal(disk)


def test_another_major_version_in_its_place_is_refused_with_the_commands(disk: Host) -> None:
    put(disk, disk.data, {"PG_VERSION": "16\n", "global/pg_control": "x"})
    said = refusal(disk)
    assert f"{disk.data} is a cluster of PostgreSQL 16, this image has {disk.major}" in said
    for command in (
        f"qtrade-postgres move {disk.data} {MOUNT}/postgresql/16/main",
        "qtrade rollback --host HOST",
        f"--old-datadir={MOUNT}/postgresql/16/main --new-datadir={disk.data}",
        f"qtrade-postgres dump {MOUNT}/postgresql/dump",
    ):
        assert command in said
    assert "16" in refusal(disk, "--beside")


def test_another_major_version_beside_is_not_hidden_by_an_empty_cluster(disk: Host) -> None:
    old = f"{MOUNT}/postgresql/16/main"
    put(disk, old, {"PG_VERSION": "16\n", "global/pg_control": "x", "base/1/1": "rows"})
    said = refusal(disk)
    assert f"{old} is a cluster of PostgreSQL 16" in said
    assert "qtrade-postgres make-empty" in said
    assert f"--old-datadir={old} --new-datadir={disk.data}" in said
    before = disk.fingerprint(old)
    disk.python("init_cluster", "--beside")
    assert disk.path(f"{disk.data}/global/pg_control").is_file()
    assert disk.fingerprint(old) == before
    assert "adopted" in disk.python("init_cluster").stdout


def test_a_restore_that_was_broken_off_is_refused(disk: Host) -> None:
    put(disk, disk.data, {"PG_VERSION": f"{disk.major}\n", "base/1/1": "rows"})
    assert "no global/pg_control" in refusal(disk)


def test_a_cluster_put_aside_is_not_hidden(disk: Host) -> None:
    put(disk, f"{disk.data}.before-20261123-180500", {"PG_VERSION": f"{disk.major}\n", "global/pg_control": "x"})
    assert "an empty one would hide its data" in refusal(disk)


def test_made_whole_then_adopted(disk: Host) -> None:
    put(disk, f"{disk.data}.new", {"PG_VERSION": f"{disk.major}\n", "half": "made"})
    assert "made" in disk.python("init_cluster").stdout
    assert not disk.path(f"{disk.data}.new").exists()
    facts = control_facts(disk)
    assert facts["Data page checksum version"] == "1"
    before = disk.fingerprint(disk.data)
    assert "adopted" in disk.python("init_cluster").stdout
    assert disk.fingerprint(disk.data) == before
    assert control_facts(disk)["Database system identifier"] == facts["Database system identifier"]
    tuning = disk.path("/run/qtrade-postgres/tuning.conf").read_text()
    assert tuning.startswith("shared_buffers = ")


def control_facts(host: Host) -> dict[str, str]:
    lines = host.run(f"/usr/lib/postgresql/{host.major}/bin/pg_controldata", host.data).stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_sorting_depends_on_no_library(disk: Host) -> None:
    disk.python("init_cluster")
    disk.start()
    try:
        found = disk.psql("SELECT datlocprovider, datlocale FROM pg_database", database="postgres")
        assert set(found.splitlines()) == {"b|C.UTF-8"}
        assert disk.psql("SHOW data_checksums", database="postgres") == "on"
    finally:
        disk.stop()


def test_the_server_says_when_it_is_ready(disk: Host) -> None:
    """Its unit is of Type=notify."""
    disk.python("init_cluster")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(30)
        listener.bind(str(disk.path("/run/notify")))
        disk.path("/run/notify").chmod(0o777)
        disk.start(env={"NOTIFY_SOCKET": "/run/notify"})
        try:
            assert b"READY=1" in listener.recv(4096)
        finally:
            disk.stop()
