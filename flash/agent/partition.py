"""Lays out the OS disk and makes its filesystems; keeps the state partition of a disk that has this layout already."""

import contextlib
import fcntl
import os
import time
import uuid
from pathlib import Path
from typing import Tuple

from . import gpt, ondisk
from .disks import LABELS, Disk
from .errors import AgentError
from .job import Layout
from .programs import run
from .wipe import zero

MIB = ondisk.MIB
_STATE_MIN_MIB = 128
_BLKRRPART = 0x125F
_TYPES = (
    "21686148-6449-6E6F-744E-656564454649",
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
)
# Named one by one: GRUB and older kernels read these; metadata_csum_seed and orphan_file, defaults of new tools, they do not.
_EXT4 = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)
# The commands that make the filesystems, but for the device. The system partition has verity, few inodes, and nothing reserved.
ESP_FORMAT = ("mkfs.vfat", "-n", "QTRADE-ESP")
_MKE2FS = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096")
SYSTEM_FORMAT = (*_MKE2FS, "-O", f"{_EXT4},verity", "-m", "0", "-i", "65536", "-L", LABELS[2])
STATE_FORMAT = (*_MKE2FS, "-O", _EXT4, "-L", LABELS[3])


def check_layout(disk: Disk, layout: Layout, needed_bytes: int, *, wipes_state: bool = False) -> bool:
    """Say whether the disk has this very layout already, so that it can be kept. Raises `AgentError` if the layout cannot be used.

    Another layout is made anew only if the state is to be wiped anyway.
    """
    least = (2 + layout.esp_mib + layout.system_mib + _STATE_MIN_MIB + 1) * MIB
    if disk.size_bytes < least:
        raise AgentError(
            "disk-small", f"{disk.describe()} is smaller than the layout, {least} bytes", "make system_mib smaller"
        )
    # A twentieth is left to the filesystem itself.
    if needed_bytes > layout.system_mib * MIB * 19 // 20:
        raise AgentError(
            "system-small",
            f"the image has {needed_bytes} bytes, qtrade-system {layout.system_mib} MiB",
            "raise system_mib",
        )
    if not disk.is_ours:
        return False
    found = (disk.partition("qtrade-esp").size // MIB, disk.partition("qtrade-system").size // MIB)
    if found != (layout.esp_mib, layout.system_mib):
        if wipes_state:
            return False
        raise AgentError(
            "layout-differs",
            f"{disk.name} has an ESP of {found[0]} and a system partition of {found[1]} MiB, the job asks for "
            f"{layout.esp_mib} and {layout.system_mib}; changing them would lose qtrade-state",
            "take the sizes of the disk into the host's manifest, or give the state up with --wipe-state",
        )
    return True


def render_table(layout: Layout, disk_uuid: str, part_uuids: Tuple[str, str, str, str]) -> str:
    """Return the sfdisk script of the layout."""
    sizes = ("start=1MiB, size=1MiB", f"size={layout.esp_mib}MiB", f"size={layout.system_mib}MiB", "")
    rows = [
        ", ".join(part for part in (size, f"type={kind}", f"name={label}", f"uuid={own}") if part)
        for size, kind, label, own in zip(sizes, _TYPES, LABELS, part_uuids)  # noqa: B905 - Python 3.9 has no strict
    ]
    return "\n".join(["label: gpt", f"label-id: {disk_uuid}", *rows, ""])


def write_table(disk: Disk, layout: Layout) -> None:
    """Write a new partition table with fresh random ids and wait for the partitions. Raises `AgentError`.

    Where the state partition will begin is blank before the table says so: after a power cut nothing there passes for a damaged state.
    """
    zero(disk.path, (2 + layout.esp_mib + layout.system_mib) * MIB, MIB, lambda _done: None)
    ids = tuple(str(uuid.uuid4()).upper() for _ in LABELS)
    table = render_table(layout, str(uuid.uuid4()).upper(), (ids[0], ids[1], ids[2], ids[3]))
    run("sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", str(disk.path), stdin=table.encode())
    _await_partitions(disk)


def mend_table(disk: Disk) -> None:
    """Mend a kept table: a torn primary copy, or one at the end that is missing, as on a disk that grew. Raises `AgentError`."""
    if disk.gpt is not None and disk.gpt.is_torn:
        gpt.mend_primary(disk)
        _reread(disk)
        _await_partitions(disk)
    if not _has_backup(disk):
        # No partition moves, so the kernel need not read the table again.
        run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--relocate", "gpt-bak-std", str(disk.path))


def _reread(disk: Disk) -> None:
    """Let the kernel read the table: it shows no partitions of a disk whose primary copy is torn. A file has none."""
    device = os.open(disk.path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.ioctl(device, _BLKRRPART)
    finally:
        os.close(device)


def _await_partitions(disk: Disk) -> None:
    if not disk.path.is_block_device():
        return
    suffix = "p" if disk.name[-1].isdigit() else ""
    nodes = [disk.path.with_name(f"{disk.name}{suffix}{number}") for number in range(1, len(LABELS) + 1)]
    deadline = time.monotonic() + 20
    while not all(node.exists() for node in nodes):
        if time.monotonic() > deadline:
            raise AgentError(
                "partitions-missing", f"the kernel does not show the new partitions of {disk.name}", "install again"
            )
        time.sleep(0.1)


def check_tables(disk: Disk) -> None:
    """Look for both copies of the GPT after writing. Raises `AgentError`."""
    if not disk.is_ours or (disk.gpt and disk.gpt.is_torn) or not _has_backup(disk):
        raise AgentError(
            "table-invalid", f"the partition table of {disk.name} does not read back", "look at the disk's health"
        )


def _has_backup(disk: Disk) -> bool:
    with disk.path.open("rb") as device:
        return ondisk.read_at(device, disk.size_bytes - disk.sector_bytes, 8) == b"EFI PART"


def make_esp(device: Path) -> None:
    """Make the FAT filesystem of the ESP."""
    run(*ESP_FORMAT, str(device))


def make_system(device: Path) -> None:
    """Make the ext4 of the system partition."""
    run(*SYSTEM_FORMAT, str(device))


def make_state(device: Path) -> None:
    """Make the ext4 of the state partition."""
    run(*STATE_FORMAT, str(device))
