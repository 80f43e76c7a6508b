"""Machines that this cannot install, or not safely: each is refused with what to do, before anything is written."""

import contextlib
import ctypes
import fcntl
import os
import struct
from pathlib import Path
from typing import Optional

from .disks import Disk
from .errors import AgentError
from .host import Host

# What the installer needs beside itself: it lives in RAM, and so do its buffers.
_LEAST_MEMORY = 64 * 1024 * 1024
_SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# The kernel's boot_params.secure_boot, for systems that have not mounted efivarfs: 3 is on (include/linux/efi.h).
_BOOT_PARAMS = ("kernel/boot_params/data", 0x1EC, 3)
_NVME_ADMIN = 0xC0484E41  # _IOWR('N', 0x41, struct nvme_admin_cmd), 72 bytes
_NVME_LOG = 512
# Bit 1, too hot, passes; the others do not (NVMe base specification, SMART / Health Information).
_NVME_WARNINGS = {
    0: "spare blocks run out",
    2: "it is no longer reliable",
    3: "it is read-only",
    4: "its memory backup failed",
}


def require_supported(host: Host, disk: Disk) -> None:
    """Refuse a machine on which the image could not be installed or would not boot. Raises `AgentError`."""
    require_bootable(host)
    is_uefi = (host.sys / "firmware/efi").is_dir()
    if disk.sector_bytes != 512 and not is_uefi:
        raise AgentError(
            "disk-4kn",
            f"{disk.describe()} has sectors of {disk.sector_bytes} bytes, and this machine booted by BIOS, which reads 512 only",
            "set the firmware to UEFI, or format the disk to sectors of 512 bytes (nvme format, sg_format)",
        )
    free = _available_memory(host.proc)
    if free is not None and free < _LEAST_MEMORY:
        raise AgentError(
            "memory-small", f"{free} bytes of RAM are free, {_LEAST_MEMORY} are needed", "give the machine more RAM"
        )
    warning = nvme_warning(disk)
    if warning:
        raise AgentError("disk-failing", f"{disk.describe()} warns: {warning}", "replace the disk; nothing was written")


def require_bootable(host: Host) -> None:
    """Refuse a machine whose firmware would not start our unsigned GRUB. Raises `AgentError`."""
    if _is_secure_boot_on(host.sys):
        raise AgentError(
            "secure-boot-on",
            "Secure Boot is on, and the GRUB that is installed is not signed by a key of this firmware",
            "switch Secure Boot off in the firmware's setup, then flash again",
        )


def io_errors(disk: Disk, sysfs: Path) -> int:
    """Return how many I/O errors the kernel has counted for a SCSI or SATA disk; 0 where it does not count.

    A healthy disk may have a few, from commands that it does not know: only a count that grows says something.
    """
    try:
        return int((sysfs / "block" / disk.name / "device/ioerr_cnt").read_text(), 16)
    except (OSError, ValueError):
        return 0


def require_no_new_errors(disk: Disk, sysfs: Path, before: int) -> None:
    """Raise `AgentError` when the disk's count of errors grew while it was written."""
    grown = io_errors(disk, sysfs) - before
    if grown > 0:
        raise AgentError(
            "disk-failing",
            f"{disk.describe()} had {grown} I/O errors while it was written",
            "replace the disk; what it boots has not changed",
        )


def nvme_warning(disk: Disk) -> str:
    """Return what an NVMe disk's critical warning says; empty for none, for other disks, and where it cannot be asked."""
    if not disk.name.startswith("nvme"):
        return ""
    log = ctypes.create_string_buffer(_NVME_LOG)
    command = struct.pack(
        "<BBHI8xQQIIIIIIIIII",
        2, 0, 0, 0xFFFFFFFF, 0, ctypes.addressof(log), 0, _NVME_LOG, (_NVME_LOG // 4 - 1) << 16 | 2, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    with contextlib.suppress(OSError):
        device = os.open(disk.path, os.O_RDONLY)
        try:
            fcntl.ioctl(device, _NVME_ADMIN, bytearray(command))
        finally:
            os.close(device)
        return describe_warning(log.raw[0])
    return ""


def describe_warning(bits: int) -> str:
    """Return the words for the bits of a critical warning."""
    return ", ".join(text for bit, text in _NVME_WARNINGS.items() if bits >> bit & 1)


def _is_secure_boot_on(sysfs: Path) -> bool:
    value = _read(sysfs / _SECURE_BOOT)
    if value is not None:
        return value[-1:] == b"\1"
    name, offset, on = _BOOT_PARAMS
    params = _read(sysfs / name)
    return params is not None and params[offset : offset + 1] == bytes([on])


def _available_memory(proc: Path) -> Optional[int]:
    for line in (_read(proc / "meminfo") or b"").decode().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: Path) -> Optional[bytes]:
    try:
        return path.read_bytes()
    except OSError:
        return None
