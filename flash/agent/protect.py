"""Proof that protected disks were not touched: made read-only in the installer, and compared by content before and after."""

import contextlib
import fcntl
import hashlib
import os
import struct
from typing import Dict, Iterable, List

from .disks import Disk
from .errors import AgentError

_BLKROSET = 0x125D
_BLKFLSBUF = 0x1261
_EDGE = 1024 * 1024
_SUPERBLOCK = 131072


def set_read_only(disks: Iterable[Disk]) -> None:
    """Make the kernel refuse writes to the disks and their partitions. Raises `AgentError`."""
    for disk in disks:
        for name in (disk.name, *disk.partitions):
            try:
                device = os.open(disk.path.with_name(name), os.O_RDONLY)
                try:
                    fcntl.ioctl(device, _BLKROSET, struct.pack("i", 1))
                finally:
                    os.close(device)
            except OSError as error:
                raise AgentError(
                    "protect-failed", f"{name} cannot be made read-only: {error}", "nothing was written"
                ) from error


def by_name(disks: Iterable[Disk]) -> Dict[str, Disk]:
    """Return the disks by what they are called in a report: the serial, more where several have the same, as NVMe namespaces do."""
    found: Dict[str, Disk] = {}
    for disk in disks:
        name = disk.serial or disk.wwid or disk.name
        if name in found and found[name].name != disk.name:
            name = f"{name} {disk.wwid if disk.serial and disk.wwid else disk.name}"
        found[name] = disk
    return found


def fingerprint(disk: Disk) -> str:
    """Return a digest of identity and content: first and last MiB (with both GPTs) and the head of every partition."""
    total = hashlib.sha256(f"{disk.serial}\n{disk.wwid}\n{disk.size_bytes}\n".encode())
    with disk.path.open("rb") as device:
        # What the page cache still holds from an earlier look would prove nothing.
        with contextlib.suppress(OSError):
            fcntl.ioctl(device, _BLKFLSBUF)
        places = [(0, _EDGE), (max(disk.size_bytes - _EDGE, 0), _EDGE)]
        places += [(one.start, _SUPERBLOCK) for one in (disk.gpt.partitions if disk.gpt else ())]
        for start, size in places:
            device.seek(start)
            total.update(device.read(size))
    for one in disk.fs_uuids:
        total.update(one.encode() + b"\n")
    return total.hexdigest()


def identity(disk: Disk) -> str:
    """Return a digest of identity only, for a running host, whose mounted filesystems write to their own superblocks."""
    table = repr(disk.gpt)
    text = "\n".join((disk.serial, disk.wwid, str(disk.size_bytes), table, *disk.fs_uuids))
    return hashlib.sha256(text.encode()).hexdigest()


def compare(before: Dict[str, str], after: Dict[str, str]) -> List[Dict[str, str]]:
    """Return the report's `protected` list. Raises `AgentError` when a disk changed or went away."""
    rows = [
        {"serial": serial, "before": value, "after": after.get(serial, "missing")} for serial, value in before.items()
    ]
    changed = [row["serial"] for row in rows if row["before"] != row["after"]]
    if changed:
        raise AgentError(
            "protected-changed",
            f"protected disks differ from before: {', '.join(changed)}",
            "stop here: find out what wrote to them before the host boots again",
        )
    return rows
