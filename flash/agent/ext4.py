"""An ext4 that may be damaged: whether it can be kept, and its superblock brought back from a copy."""

from pathlib import Path
from typing import List

from .errors import AgentError
from .ondisk import read_at
from .programs import run

# Copies of the superblock stand at the start of these groups of 32768 blocks (sparse_super); all filesystems here have blocks of 4 KiB.
_BLOCK = 4096
_GROUP_BLOCKS = 32768
_COPIES = (1, 3, 5, 7, 9, 25, 27, 49)
_SUPERBLOCK, _SUPERBLOCK_SIZE = 1024, 1024
_MAGIC_AT, _MAGIC = 0x38, b"\x53\xef"
_LABEL_AT, _LABEL_SIZE = 0x78, 16


def is_sound(device: Path, *options: str) -> bool:
    """Say whether an existing ext4 can be kept; small faults are mended by this."""
    try:
        run("e2fsck", "-p", *options, str(device), allowed=1, timeout_s=1800)
    except AgentError:
        return False
    return True


def has_magic(device: Path) -> bool:
    """Say whether there is an ext4, whole or not."""
    return _is_ours(_read(device, _SUPERBLOCK), b"")


def is_blank(device: Path) -> bool:
    """Say whether nothing was ever written to the head, or it was wiped: mke2fs itself zeros the old superblock first."""
    return not _read(device, _SUPERBLOCK).strip(b"\0")


def find_copies(device: Path, label: str) -> List[int]:
    """Return the blocks that hold copies of the superblock of a filesystem called `label`."""
    blocks = (group * _GROUP_BLOCKS for group in _COPIES)
    return [block for block in blocks if _is_ours(_read(device, block * _BLOCK), label.encode())]


def mend_from_copy(device: Path, label: str) -> bool:
    """Mend a filesystem called `label` from a copy of its superblock; say whether that was possible without losing data."""
    return any(is_sound(device, "-b", str(block), "-B", str(_BLOCK)) for block in find_copies(device, label))


def _is_ours(superblock: bytes, label: bytes) -> bool:
    name = superblock[_LABEL_AT : _LABEL_AT + _LABEL_SIZE].rstrip(b"\0")
    return superblock[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC and label in (b"", name)


def _read(device: Path, offset: int) -> bytes:
    with device.open("rb") as file:
        return read_at(file, offset, _SUPERBLOCK_SIZE)
