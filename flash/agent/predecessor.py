"""What an earlier installation on the OS disk says against a job of the installer: who held the host last, and what it runs by.

It is read before the first write, and no filesystem journal is replayed for it.
"""

import contextlib
from pathlib import Path
from typing import Iterator

from . import admission, boot, disks, mounts
from .disks import Disk
from .errors import AgentError
from .host import Host
from .job import Job
from .journal import Journal
from .trust import TrustSet

_OPTIONS = {"esp": ("vfat", "ro", "umask=0077"), "system": ("ext4", "ro", "noload"), "state": ("ext4", "ro", "noload")}


def require_holder(job: Job, host: Host) -> None:
    """Raise `AgentError` when a later holder of this host gave it a job already: the controller of this one was cut off."""
    everything = disks.discover(host.sys, host.dev) if job.os_disk is not None else []
    for disk in everything:
        if job.os_disk is not None and disk.matches(job.os_disk) and disk.is_ours:
            with _opened(disk, host, "state") as state:
                Journal(state / "agent").require_holder(job)


def require_newer(job: Job, sequence: int, disk: Disk, host: Host, trust: TrustSet) -> None:
    """Raise `AgentError` when the disk's default image was promoted later than the job's."""
    if disk.is_ours:
        admission.require_newer(sequence, _runs_by(disk, host, trust), allow_older=job.allow_older)


def _runs_by(disk: Disk, host: Host, trust: TrustSet) -> int:
    """Return the sequence of the default image, 0 where the disk does not tell one: that cannot boot either."""
    with _opened(disk, host, "esp") as esp, _opened(disk, host, "system") as system:
        try:
            return admission.sequence_of(system, boot.read_state(esp).default, trust)
        except AgentError:
            return 0


@contextlib.contextmanager
def _opened(disk: Disk, host: Host, name: str) -> Iterator[Path]:
    """Mount a partition read-only for a while. One that cannot be mounted shows an empty folder."""
    place = host.run / "before" / name
    place.mkdir(parents=True, exist_ok=True)
    kind, *options = _OPTIONS[name]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(AgentError):
            stack.enter_context(mounts.mounted(disk.partition_path(f"qtrade-{name}"), place, kind, *options))
        yield place
