"""Puts GRUB's BIOS part where a BIOS finds it: boot.img into the first sector, core.img into the bios_boot partition.

core.img is many sectors long, and a power cut may tear it. So a new one goes into the half of the partition that is not in use, and
one sector leads to it then: the old one boots, or the new one.
"""

import os
import struct
from pathlib import Path

from .errors import AgentError
from .ondisk import SECTOR, Partition

_CODE_SIZE = 440
_CORE_LBA = 0x5C
_DRIVE_CHECK = 0x66
_BLOCKLIST = SECTOR - 12
_LOAD_SEGMENT = 0x820


def patch_boot(boot: bytes, core_lba: int) -> bytes:
    """Return boot.img's code, told where core.img begins; the jump that would trust the BIOS's drive number is blanked."""
    code = bytearray(boot[:_CODE_SIZE])
    struct.pack_into("<Q", code, _CORE_LBA, core_lba)
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    return bytes(code)


def patch_core(core: bytes, core_lba: int) -> bytes:
    """Return core.img padded to whole sectors, its first sector told where the rest is."""
    sectors = -(-len(core) // SECTOR)
    padded = bytearray(core.ljust(sectors * SECTOR, b"\0"))
    struct.pack_into("<QHH", padded, _BLOCKLIST, core_lba + 1, sectors - 1, _LOAD_SEGMENT)
    return bytes(padded)


def install_bios(disk: Path, where: Partition, boot: bytes, core: bytes) -> None:
    """Make the disk boot by this boot.img and core.img. What stands there already is not written again. Raises `AgentError`.

    Of the first sector, which has the partition table too, only the code changes.
    """
    half = where.size // 2 // SECTOR * SECTOR
    if len(boot) < _CODE_SIZE or -(-len(core) // SECTOR) * SECTOR > half:
        raise AgentError(
            "grub-invalid",
            f"core.img has {len(core)} bytes, half of bios_boot {half}; boot.img has {len(boot)}",
            "make the installer again",
        )
    device = os.open(disk, os.O_RDWR)
    try:
        code = os.pread(device, _CODE_SIZE, 0)
        used = struct.unpack_from("<Q", code, _CORE_LBA)[0] * SECTOR
        if used in (where.start, where.start + half) and _is_installed(device, used, boot, core):
            return
        free = where.start + half if used == where.start else where.start
        for data, offset in ((patch_core(core, free // SECTOR), free), (patch_boot(boot, free // SECTOR), 0)):
            os.pwrite(device, data, offset)
            os.fsync(device)
    finally:
        os.close(device)


def _is_installed(device: int, place: int, boot: bytes, core: bytes) -> bool:
    padded, code = patch_core(core, place // SECTOR), patch_boot(boot, place // SECTOR)
    return os.pread(device, len(padded), place) == padded and os.pread(device, len(code), 0) == code
