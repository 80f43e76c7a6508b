"""The verbs of a store, in a folder and on a strict S3."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qtrade.store.local import LocalObjects
from qtrade.store.objects import Objects
from tests.fakes.objects_contract import ObjectsContract, sha

pytestmark = pytest.mark.unit


class TestLocal(ObjectsContract):
    @pytest.fixture
    def objects(self, tmp_path) -> Objects:
        return LocalObjects(tmp_path / "store")


class TestStrictS3(ObjectsContract):
    @pytest.fixture
    def objects(self, s3, server) -> Objects:
        server.page = 2  # so that listings have pages
        return s3


def test_a_write_that_was_cut_off_is_swept_when_it_is_old(tmp_path) -> None:
    objects = LocalObjects(tmp_path)
    objects.put("blobs/x", b"x")
    cut = tmp_path / "blobs/.new-cut"
    cut.write_bytes(b"half")
    assert [entry.key for entry in objects.list("blobs/")] == ["blobs/x"]
    assert objects.sweep(60) == 0
    os.utime(cut, (time.time() - 100, time.time() - 100))
    assert objects.sweep(60) == 1
    assert not cut.exists()


def test_a_taken_file_is_moved_read_only(tmp_path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    LocalObjects(tmp_path / "store").take_file("blobs/x", source)
    target = tmp_path / "store/blobs/x"
    assert (target.read_bytes(), target.stat().st_mode & 0o777, source.exists()) == (b"x", 0o444, False)


@pytest.mark.parametrize("write", ["put_file", "take_file"])
def test_a_damaged_file_of_the_same_size_is_replaced(tmp_path, write) -> None:
    objects, source = LocalObjects(tmp_path / "store"), tmp_path / "source"
    objects.put("blobs/x", b"bad")
    source.write_bytes(b"new")
    objects.put_file("blobs/x", source, sha(b"new")) if write == "put_file" else objects.take_file("blobs/x", source)
    assert objects.get("blobs/x")[0] == b"new"


def test_a_file_from_another_file_system_is_copied_whole(tmp_path, monkeypatch) -> None:
    source, real = tmp_path / "source", Path.rename
    source.write_bytes(b"x")
    crossings: list[Path] = []

    def rename(self: Path, target: Path) -> Path:
        if self == source:
            crossings.append(self)
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    LocalObjects(tmp_path / "store").take_file("blobs/x", source)
    assert crossings == [source]
    assert ((tmp_path / "store/blobs/x").read_bytes(), source.exists()) == (b"x", False)
    assert [path.name for path in (tmp_path / "store/blobs").iterdir()] == ["x"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from qtrade.store.local import LocalObjects
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die  # all bytes are written, nothing is in its place
source = Path(sys.argv[1], "source")
source.write_bytes(b"x" * 1000)
objects = LocalObjects(Path(sys.argv[1], "store"))
eval(sys.argv[2])
"""


@pytest.mark.parametrize(
    "write",
    [
        "objects.put('blobs/x', b'x')",
        "objects.put_new('blobs/x', b'x')",
        "objects.put_if('blobs/x', b'x', None)",
        f"objects.put_file('blobs/x', source, '{sha(b'x' * 1000)}')",
        "objects.take_file('blobs/x', source)",
    ],
)
def test_a_writer_that_is_killed_leaves_nothing_to_read(tmp_path, write) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path), write]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    objects = LocalObjects(tmp_path / "store")
    assert objects.size("blobs/x") is None
    assert objects.list("blobs/") == ()
    objects.put_if("blobs/x", b"y", None)
    assert objects.get("blobs/x")[0] == b"y"
    objects.sweep(-60)
    assert [path.name for path in (tmp_path / "store/blobs").iterdir()] == ["x"]
