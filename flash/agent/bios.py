"""Puts GRUB's BIOS part where a BIOS finds it: boot.img into the first sector, core.img into the bios_boot partition."""

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
    """Write core.img, then boot.img's code; the partition table in the first sector is left as it is. Raises `AgentError`."""
    lba = where.start // SECTOR
    padded = patch_core(core, lba)
    if len(padded) > where.size or len(boot) < _CODE_SIZE:
        raise AgentError(
            "grub-invalid", f"core.img has {len(core)} bytes, bios_boot {where.size}", "make the installer again"
        )
    device = os.open(disk, os.O_WRONLY)
    try:
        os.pwrite(device, padded, where.start)
        os.fsync(device)
        os.pwrite(device, patch_boot(boot, lba), 0)
        os.fsync(device)
    finally:
        os.close(device)
