"""Initial RAM filesystems, read."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash.agent.kexec import pack_job
from qtrade.errors import TrustError
from qtrade.initrd import Entry, _read_archive, write_tar

pytestmark = pytest.mark.unit


def entry(name: str, data: bytes) -> bytes:
    """Return a member of a cpio archive in the format newc."""
    fields = [0] * 13
    fields[6], fields[11] = len(data), len(name) + 1
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")


def test_archive_is_read_to_its_end() -> None:
    data = entry("usr/a", b"12345") + entry("./usr/b", b"") + entry("TRAILER!!!", b"")
    ends = []

    def read() -> Iterator[Entry]:
        ends.append((yield from _read_archive(data + b"what follows")))

    assert [(one.name, one.data) for one in read()] == [("usr/a", b"12345"), ("usr/b", b"")]
    assert ends == [len(data)]


def test_truncated_archive_is_refused() -> None:
    with pytest.raises(TrustError):
        list(_read_archive(entry("usr/a", b"12345")))


def test_what_the_agent_packs_is_read_back() -> None:
    packed = pack_job(b'{"nonce": 1}')
    assert [(one.name, oct(one.mode), one.data) for one in _read_archive(packed)] == [
        ("qtrade", "0o40700", b""),
        ("qtrade/job.json", "0o100400", b'{"nonce": 1}'),
    ]
    assert len(packed) % 4 == 0


def test_tar_holds_files_folders_and_links_the_last_ones(tmp_path: Path) -> None:
    entries = [
        Entry("usr", 0o040755, b""),
        Entry("usr/a", 0o100755, b"old"),
        Entry("usr/a", 0o100755, b"new"),
        Entry("bin", 0o120777, b"usr/bin"),
        Entry("dev/console", 0o020600, b""),
    ]
    write_tar(iter(entries), tmp_path / "tar")
    with tarfile.open(tmp_path / "tar") as archive:
        assert archive.getnames() == ["bin", "usr", "usr/a"]
        assert archive.getmember("bin").linkname == "usr/bin"
        assert archive.getmember("usr/a").mode == 0o755
        content = archive.extractfile("usr/a")
        assert content is not None
        assert content.read() == b"new"
