"""Mends a GPT whose primary copy is torn from the copy at the disk's end: no partition moves."""

import os
import struct
import zlib
from typing import BinaryIO

from .disks import Disk
from .errors import AgentError
from .ondisk import GPT_HEADER, find_backup, read_at


def mend_primary(disk: Disk) -> None:
    """Write the primary header and table anew from the backup, and the MBR that protects them if it is gone. Raises `AgentError`."""
    device = os.open(disk.path, os.O_RDWR | os.O_CLOEXEC)
    with os.fdopen(device, "r+b", buffering=0) as file:
        _mend(file, disk)
        os.fsync(file.fileno())


def _mend(file: BinaryIO, disk: Disk) -> None:
    sector = disk.sector_bytes
    found = find_backup(file, disk.size_bytes, sector)
    if found is None:
        raise AgentError("table-invalid", f"{disk.describe()} has no whole copy of its table", "look at the disk")
    place, fields = found
    entries = read_at(file, fields[10] * sector, fields[11] * fields[12])
    header = list(fields)
    header[3], header[5], header[6], header[10] = 0, 1, place // sector, 2
    header[3] = zlib.crc32(GPT_HEADER.pack(*header))
    file.seek(2 * sector)
    file.write(entries.ljust(-(-len(entries) // sector) * sector, b"\0"))
    os.fsync(file.fileno())
    file.seek(sector)
    file.write(GPT_HEADER.pack(*header).ljust(sector, b"\0"))
    first = bytearray(read_at(file, 0, sector))
    if first[510:512] != b"\x55\xaa" or first[450] != 0xEE:
        sectors = min(disk.size_bytes // sector - 1, 0xFFFFFFFF)
        first[446:512] = (
            struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, sectors).ljust(64, b"\0") + b"\x55\xaa"
        )
        file.seek(0)
        file.write(first)
