"""The parts of outputs that need no tool: block maps, free blocks, archives, and the signed list of checksums."""

import fcntl
import hashlib
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bake.output import outputs
from bake.output.bmap import hash_ranges, render_bmap
from bake.output.disk import DiskLayout, _check_room, _complement, _join
from bake.output.ext4 import parse_free
from qtrade.errors import BadInput, ConflictError
from qtrade.signing import SigningKey
from tests.fakes.examples import make_image

pytestmark = pytest.mark.unit

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))


def test_block_map_says_which_blocks_to_write(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"a" * 4096 + b"b" * 8192 + b"c" * 4096)
    ranges = hash_ranges(disk, (range(1), range(2, 4)), 4096)
    root = ET.fromstring(render_bmap(disk.stat().st_size, 4096, ranges))
    assert root.attrib["version"] == "2.0"
    texts = {child.tag: (child.text or "").strip() for child in root}
    assert (texts["ImageSize"], texts["BlockSize"], texts["BlocksCount"]) == ("16384", "4096", "4")
    assert (texts["MappedBlocksCount"], texts["ChecksumType"]) == ("3", "sha256")
    found = [((row.text or "").strip(), row.attrib["chksum"]) for row in root.iter("Range")]
    assert found == [
        ("0", hashlib.sha256(b"a" * 4096).hexdigest()),
        ("2-3", hashlib.sha256(b"b" * 4096 + b"c" * 4096).hexdigest()),
    ]


def test_block_map_has_its_own_checksum(tmp_path: Path) -> None:
    text = render_bmap(4096, 4096, ((range(1), "ab" * 32),))
    found = (ET.fromstring(text).findtext("BmapFileChecksum") or "").strip()
    assert found == hashlib.sha256(text.replace(found, "0" * 64).encode()).hexdigest()


def test_free_blocks_are_read_across_groups() -> None:
    text = "Group 0: (Blocks 0-9)\n  Free blocks: 3, 5-9\n  Free inodes: 1-4\nGroup 1:\n  Free blocks: 10-12\n  Free blocks: \n"
    assert parse_free(text) == (range(3, 4), range(5, 13))


def test_used_blocks_are_what_is_not_free() -> None:
    assert _complement((range(3, 4), range(5, 13)), 20) == [range(3), range(4, 5), range(13, 20)]
    assert _complement((range(10),), 10) == []
    assert _join((range(3), range(3, 5), range(7, 8))) == (range(5), range(7, 8))


def test_layout_must_hold_two_images() -> None:
    image = make_image()
    big = image.model_copy(update={"kernel": image.kernel.model_copy(update={"size": 600 << 20})})
    _check_room(big, DiskLayout(system_mib=1400))
    with pytest.raises(BadInput) as error:
        _check_room(big, DiskLayout(system_mib=1024))
    assert "system_mib" in error.value.resolution


def test_checksums_of_earlier_exports_stay_while_their_files_do(tmp_path: Path) -> None:
    for name in ("a.raw", "b.qcow2", "gone"):
        (tmp_path / name).write_bytes(name.encode())
    file = outputs.OutputFile
    outputs._write_sums(tmp_path, (file("gone", 4, "0" * 64), file("b.qcow2", 7, "1" * 64)), KEY)
    (tmp_path / "gone").unlink()
    outputs._write_sums(tmp_path, (file("a.raw", 5, "2" * 64),), KEY)
    text = (tmp_path / "SHA256SUMS").read_bytes()
    assert text.decode().splitlines() == [f"{'2' * 64}  a.raw", f"{'1' * 64}  b.qcow2"]
    assert KEY.public.verify((tmp_path / "SHA256SUMS.sig").read_bytes(), text)


def test_checksums_that_somebody_changed_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"a")
    file = outputs.OutputFile
    outputs._write_sums(tmp_path, (file("a.raw", 1, "0" * 64),), OTHER)
    assert outputs._read_sums(tmp_path, OTHER.public) == {"a.raw": "0" * 64}
    assert outputs._read_sums(tmp_path, KEY.public) == {}


def test_one_export_at_a_time_and_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".new-dead").mkdir()
    with outputs._alone(tmp_path):
        assert not (tmp_path / ".new-dead").exists()
        with pytest.raises(ConflictError), outputs._alone(tmp_path):
            pytest.fail("two exports write into one folder")
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
