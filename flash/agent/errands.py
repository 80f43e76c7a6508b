"""What the installer does besides installing: blank data disks get their filesystem, a host that is given up loses its state."""

from typing import Any, Callable, Dict, List

from . import disks, ondisk, protect
from .disks import Disk
from .errors import AgentError
from .job import DiskId, Job
from .programs import run
from .report import Reporter
from .trust import TrustSet
from .wipe import zero

_EDGE = 1024 * 1024
_SAMPLES = 256
_SAMPLE = 4096


def prepare_disks(job: Job, trust: TrustSet, now: float, reporter: Reporter) -> Dict[str, Any]:
    """Format the data disks of the job that are blank; ones that hold their filesystem already stay. Raises `AgentError`.

    Every disk is looked at before the first is written. The filesystem is ext4 with the UUID that the job gives.
    """
    trust.require_fresh(now)
    if job.os_disk is None or not job.data or any(one.fs_uuid is None for one in job.data):
        raise AgentError("job-invalid", "a job of kind prepare_disks needs os_disk, and data with an fs_uuid each")
    everything = disks.discover()
    os_disk = disks.bind_os_disk(everything, job.os_disk)
    guarded = disks.bind_guarded(everything, job.protected, os_disk, "protected")
    blank = [(_bind(everything, one, os_disk, guarded), one) for one in job.data if not _is_prepared(everything, one)]
    for disk, _ in blank:
        require_blank(disk)
    chosen = {disk.name for disk, _ in blank}
    protect.set_read_only([disk for disk in everything if disk.name not in chosen])
    for disk, one in blank:
        reporter.progress("format", disk=disk.describe(), fs_uuid=one.fs_uuid)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-U", str(one.fs_uuid), "-m", "0", str(disk.path), timeout_s=3600)
        if one.fs_uuid not in _reread(disk).fs_uuids:
            raise AgentError("format-failed", f"{disk.describe()} does not show its new filesystem", "look at the disk")
    return {"formatted": [{"disk": disk.describe(), "fs_uuid": one.fs_uuid} for disk, one in blank]}


def decommission(job: Job, trust: TrustSet, now: float, reporter: Reporter) -> Dict[str, Any]:
    """Overwrite the state partition (secrets, keys, config), then the boot files and the table of the OS disk. Raises `AgentError`."""
    trust.require_fresh(now)
    everything = disks.discover()
    if job.os_disk is None:
        raise AgentError("job-invalid", "a job of kind decommission needs os_disk")
    disk = disks.bind_os_disk(everything, job.os_disk)
    disks.require_usable(disk, everything, disks.read_mounts())
    if not disk.is_ours:
        raise AgentError("disk-foreign", f"{disk.describe()} is no disk of this project", "nothing was written")
    guarded = disks.bind_guarded(everything, job.protected, disk, "protected")
    protect.set_read_only([other for other in everything if other.name != disk.name])
    before = {other.serial or other.name: protect.fingerprint(other) for other in guarded}
    state = disk.partition("qtrade-state")
    for place in (state, disk.partition("qtrade-esp"), disk.partition("bios_boot")):
        zero(disk.path, place.start, place.size, _teller(reporter, place))
    zero(disk.path, 0, _EDGE, lambda _done: None)
    zero(disk.path, disk.size_bytes - _EDGE, _EDGE, lambda _done: None)
    after = {other.serial or other.name: protect.fingerprint(other) for other in guarded}
    return {"wiped_bytes": state.size, "protected": protect.compare(before, after)}


Errand = Callable[[Job, TrustSet, float, Reporter], Dict[str, Any]]
ERRANDS: Dict[str, Errand] = {"prepare_disks": prepare_disks, "decommission": decommission}


def require_blank(disk: Disk) -> None:
    """Refuse a disk on which anything may be: a table, a filesystem, a mark of a pool, bytes at one of 256 places. Raises `AgentError`."""
    found: List[str] = [*disk.members, *disk.fs_uuids, *disk.partitions, *disk.holders]
    if disk.gpt is not None:
        found.append("a partition table")
    if not found:
        with disk.path.open("rb") as device:
            gap = max((disk.size_bytes - _SAMPLE) // _SAMPLES // _SAMPLE * _SAMPLE, _SAMPLE)
            samples = range(0, disk.size_bytes - _SAMPLE, gap)
            places = [(0, _EDGE), (disk.size_bytes - _EDGE, _EDGE), *((start, _SAMPLE) for start in samples)]
            written = [start for start, size in places if any(ondisk.read_at(device, start, size))]
        found += [f"bytes at {start}" for start in written[:1]]
    if found:
        raise AgentError(
            "disk-not-blank",
            f"{disk.describe()} is not blank: {', '.join(found)}",
            "if its data is not needed, wipe it by hand (`blkdiscard --force` or `wipefs --all` and zeros); qtrade never does",
        )


def _is_prepared(everything: List[Disk], wanted: DiskId) -> bool:
    return any(disk.matches(wanted) for disk in everything)


def _bind(everything: List[Disk], wanted: DiskId, os_disk: Disk, guarded: List[Disk]) -> Disk:
    found = disks.bind_guarded(everything, [wanted._replace(fs_uuid=None)], os_disk, "data")[0]
    if found.name in {disk.name for disk in guarded}:
        raise AgentError("data-is-protected", f"{found.describe()} is a protected disk", "correct the host's manifest")
    disks.require_usable(found, [], disks.read_mounts())
    return found


def _reread(disk: Disk) -> Disk:
    return next(one for one in disks.discover() if one.name == disk.name)


def _teller(reporter: Reporter, place: ondisk.Partition) -> Callable[[int], None]:
    def tell(done: int) -> None:
        reporter.progress("wipe", partition=place.label, done_bytes=done, total_bytes=place.size)

    return tell
