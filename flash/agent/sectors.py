"""Names the place of a read error: the disk and the sector, so that a person can tell a failing disk from a bad transfer."""

import contextlib
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Tuple

from .errors import AgentError

_FIBMAP = 1
_FIGETBSZ = 2
_SECTOR = 512


def read_failed(path: Path, offset: int, error: OSError, sysfs: Path = Path("/sys")) -> AgentError:
    """Return the error for a file that cannot be read at or after `offset`."""
    where = ""
    if error.errno == errno.EIO:
        with contextlib.suppress(OSError, ValueError):
            bad = _find_bad_block(path, offset)
            disk, sector = locate(path, bad, sysfs)
            where = f" on {disk}, sector {sector}"
    return AgentError(
        "disk-read-failed",
        f"{path.name}{where} cannot be read at byte {offset}: {error.strerror}",
        "the disk fails: replace it, then install the host anew",
    )


def locate(path: Path, offset: int, sysfs: Path = Path("/sys")) -> Tuple[str, int]:
    """Return the disk, and the sector of 512 bytes on it, that holds the byte at `offset` of a file. Raises `OSError`, `ValueError`."""
    device = os.open(path, os.O_RDONLY)
    try:
        block_bytes = struct.unpack("i", fcntl.ioctl(device, _FIGETBSZ, struct.pack("i", 0)))[0]
        asked = struct.pack("i", offset // block_bytes)
        block = struct.unpack("i", fcntl.ioctl(device, _FIBMAP, asked))[0]
        number = os.fstat(device).st_dev
    finally:
        os.close(device)
    entry = (sysfs / f"dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    is_partition = (entry / "partition").exists()
    first = int((entry / "start").read_text()) if is_partition else 0
    name = entry.parent.name if is_partition else entry.name
    return name, first + block * (block_bytes // _SECTOR) + offset % block_bytes // _SECTOR


def _find_bad_block(path: Path, offset: int) -> int:
    """Return the first byte from `offset` on, in steps of 4 KiB, that cannot be read."""
    device = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(device).st_size
        for at in range(offset, size, 4096):
            try:
                os.pread(device, 1, at)
            except OSError:
                return at
    finally:
        os.close(device)
    return offset
