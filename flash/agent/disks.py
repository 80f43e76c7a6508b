"""Finds the disks in sysfs and binds the job's OS disk to exactly one of them; guesses nothing."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import ondisk
from .errors import AgentError
from .job import IDENTIFIERS, DiskId

LABELS = ("bios_boot", "qtrade-esp", "qtrade-system", "qtrade-state")
ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_IGNORED = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")


class Disk(NamedTuple):
    """A disk as the kernel and its own bytes show it."""

    name: str
    path: Path
    serial: str
    wwid: str
    pci_path: str
    model: str
    size_bytes: int
    sector_bytes: int
    partitions: Tuple[str, ...]
    holders: Tuple[str, ...]
    gpt: Optional[ondisk.Gpt]
    fs_uuids: Tuple[str, ...]
    members: Tuple[str, ...]

    def describe(self) -> str:
        """Return one line that tells a person which disk this is."""
        return (
            f"{self.name} ({self.model or 'no model'}, serial {self.serial or '-'}, wwid {self.wwid or '-'}, "
            f"{self.size_bytes} bytes, {self.pci_path or 'no PCI path'})"
        )

    def matches(self, wanted: DiskId) -> bool:
        """Say whether every identifier that is given fits."""
        own = {name: getattr(self, name) for name in IDENTIFIERS}
        fits = all(own[name] == getattr(wanted, name) for name in IDENTIFIERS if getattr(wanted, name) is not None)
        return fits and (wanted.fs_uuid is None or wanted.fs_uuid.lower() in [one.lower() for one in self.fs_uuids])

    @property
    def is_ours(self) -> bool:
        """Say whether the disk carries this project's partitions, all four in their places."""
        return self.gpt is not None and tuple(one.label for one in self.gpt.partitions) == LABELS

    def partition(self, label: str) -> ondisk.Partition:
        """Return the partition with `label`. Raises `AgentError`."""
        found = [one for one in (self.gpt.partitions if self.gpt else ()) if one.label == label]
        if len(found) != 1:
            raise AgentError(
                "layout-unknown", f"{self.name} has {len(found)} partitions {label}, expected one", "install the host"
            )
        return found[0]

    def partition_path(self, label: str) -> Path:
        """Return the device of the partition with `label`."""
        number = self.partition(label).number
        return self.path.with_name(f"{self.name}{'p' if self.name[-1].isdigit() else ''}{number}")


def discover(sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> List[Disk]:
    """Return all whole disks that hold a medium, by name."""
    names = sorted(path.name for path in (sysfs / "block").iterdir() if not path.name.startswith(_IGNORED))
    disks = (_read_disk(sysfs / "block" / name, dev / name) for name in names)
    return [disk for disk in disks if disk is not None]


def bind_os_disk(disks: Iterable[Disk], wanted: DiskId) -> Disk:
    """Return the one disk that has all identifiers of `wanted`. Raises `AgentError`, listing what is there, for none or several."""
    everything = list(disks)
    matching = [disk for disk in everything if disk.matches(wanted)]
    if len(matching) == 1:
        return matching[0]
    seen = "; ".join(disk.describe() for disk in everything) or "no disks at all"
    code = "disk-ambiguous" if matching else "disk-not-found"
    raise AgentError(
        code,
        f"{len(matching)} disks have {wanted.describe()}; the machine has: {seen}",
        "correct os_disk in the host's manifest; no other disk is taken instead",
    )


def bind_guarded(disks: Iterable[Disk], wanted: Iterable[DiskId], os_disk: Disk, what: str) -> List[Disk]:
    """Return the disk of each of `wanted` (protected or data). Raises `AgentError` when one is missing, unclear or the OS disk."""
    everything = list(disks)
    found = []
    for one in wanted:
        matching = [disk for disk in everything if disk.matches(one)]
        if len(matching) != 1:
            raise AgentError(
                f"{what}-missing" if not matching else f"{what}-ambiguous",
                f"{len(matching)} disks are the {what} disk with {one.describe()}",
                "check cables and the host's manifest before anything is written",
            )
        if matching[0].name == os_disk.name or (one.fs_uuid or "-").lower() in [
            uuid.lower() for uuid in os_disk.fs_uuids
        ]:
            raise AgentError(
                f"{what}-is-os-disk",
                f"{os_disk.describe()} is named as OS disk and as {what} disk",
                "correct the host's manifest",
            )
        found.append(matching[0])
    return found


def require_usable(disk: Disk, disks: Iterable[Disk], mounts: Dict[str, str]) -> None:
    """Refuse an OS disk that is in use, that belongs to a pool, or whose labels another disk has too. Raises `AgentError`."""
    busy = [f"{name} on {mounts[name]}" for name in (disk.name, *disk.partitions) if name in mounts]
    if busy or disk.holders:
        using = ", ".join([*busy, *disk.holders])
        raise AgentError("disk-busy", f"{disk.describe()} is in use: {using}", "unmount it or stop the array first")
    if disk.members:
        raise AgentError(
            "disk-member", f"{disk.describe()} is part of: {', '.join(disk.members)}", _cure_member(disk.members)
        )
    for other in disks:
        labels = {one.label for one in other.gpt.partitions} if other.gpt else set()
        twice = sorted(labels & set(LABELS[1:]))
        if other.name != disk.name and twice:
            raise AgentError(
                "label-duplicate",
                f"{other.describe()} has partitions named {', '.join(twice)} as well",
                "wipe or pull the disk that held an earlier installation",
            )


@contextlib.contextmanager
def held(disk: Disk) -> Iterator[None]:
    """Keep udev off the disk while it is written: it reads the table anew after each write, and partitions vanish for a moment.

    This is the lock of https://systemd.io/BLOCK_DEVICE_LOCKING.
    """
    handle = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def require_unclaimed(disk: Disk) -> None:
    """Refuse an OS disk that the kernel holds for something that no list names, such as an imported pool. Raises `AgentError`."""
    if not disk.path.is_block_device():
        return
    try:
        os.close(os.open(disk.path, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        raise AgentError(
            "disk-busy",
            f"{disk.describe()} is in use: {error.strerror}",
            "stop what holds it (mdadm, zpool export) first",
        ) from error


def _cure_member(members: Tuple[str, ...]) -> str:
    if {"md", "imsm", "ddf"} & set(members):
        return (
            "an OS disk is not mirrored here: the image is in the store, and a new disk is flashed in minutes. If this is the OS disk, "
            "stop the array and wipe its marks on both disks (mdadm --zero-superblock, or the firmware's menu), and name one of them"
        )
    return "if it really is the OS disk, take it out of the pool and wipe its marks by hand"


def second_esps(disk: Disk, disks: Iterable[Disk]) -> List[str]:
    """Return the other disks that hold an ESP: what the firmware may choose in place of the OS disk."""
    return [
        other.describe()
        for other in disks
        if other.name != disk.name and other.gpt and any(one.type_uuid == ESP_TYPE for one in other.gpt.partitions)
    ]


def read_mounts(proc: Path = Path("/proc")) -> Dict[str, str]:
    """Return device name -> where it is mounted or used as swap."""
    found = {}
    # In a chroot of a rescue system, one's own table lacks what is mounted outside.
    table = proc / "1/mounts"
    for line in (table if table.exists() else proc / "mounts").read_text().splitlines():
        device, target = line.split()[:2]
        if device.startswith("/dev/"):
            found[Path(device).resolve().name] = target
    swaps = proc / "swaps"
    for line in swaps.read_text().splitlines()[1:] if swaps.exists() else ():
        found[Path(line.split()[0]).resolve().name] = "swap"
    return found


def _read_disk(entry: Path, path: Path) -> Optional[Disk]:
    size = int(_text(entry / "size") or 0) * 512
    if size == 0 or not path.exists():
        return None
    partitions = tuple(sorted(child.name for child in entry.iterdir() if (child / "partition").exists()))
    sector = int(_text(entry / "queue/logical_block_size") or 512)
    try:
        with path.open("rb") as device:
            gpt, uuids, members = ondisk.scan(device, size, sector)
    except OSError as error:
        raise AgentError(
            "disk-unreadable", f"{path} cannot be read: {error}", "look at the disk; nothing was written"
        ) from error
    return Disk(
        name=entry.name,
        path=path,
        serial=_serial(entry),
        wwid=_text(entry / "wwid") or _text(entry / "device/wwid"),
        pci_path=_pci_path(entry),
        model=_text(entry / "device/model"),
        size_bytes=size,
        sector_bytes=sector,
        partitions=partitions,
        holders=tuple(sorted(_holders(entry, partitions))),
        gpt=gpt,
        fs_uuids=tuple(uuids),
        members=tuple(members),
    )


def _serial(entry: Path) -> str:
    """Return the serial number: where virtio and NVMe show it, else SCSI's page 0x80 (4 bytes of head)."""
    plain = _text(entry / "serial") or _text(entry / "device/serial")
    if plain:
        return plain
    page = entry / "device/vpd_pg80"
    try:
        return page.read_bytes()[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def _pci_path(entry: Path) -> str:
    """Return the address of the PCI function nearest to the disk, like `0000:00:04.0`."""
    parts = entry.resolve().parts
    functions = [part for part in parts if len(part) == 12 and part[4] == part[7] == ":" and part[10] == "."]
    return functions[-1] if functions else ""


def _holders(entry: Path, partitions: Tuple[str, ...]) -> List[str]:
    folders = [entry / "holders", *(entry / name / "holders" for name in partitions)]
    return [child.name for folder in folders if folder.is_dir() for child in folder.iterdir()]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
