"""The running host: where its partitions are, which image it runs, who it is."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Dict, Iterator

from . import disks, mounts
from .errors import AgentError

RUN = Path("/run/qtrade")
INPUTS = Path("/usr/lib/qtrade/inputs.d")


class Host:
    """Paths of a host; tests give others."""

    def __init__(  # noqa: PLR0913 - one parameter per path
        self,
        *,
        run: Path = RUN,
        inputs: Path = INPUTS,
        etc: Path = Path("/etc"),
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
        mnt: Path = Path("/mnt"),
        root: Path = Path("/"),
    ) -> None:
        self.run, self.inputs = run, inputs
        self.etc, self.proc, self.sys, self.dev, self.mnt, self.root = etc, proc, sys, dev, mnt, root

    @property
    def system(self) -> Path:
        """Return the system partition."""
        return self.run / "system"

    @property
    def state(self) -> Path:
        """Return the state partition."""
        return self.run / "state"

    @property
    def config(self) -> Path:
        """Return the folder of the config generations."""
        return self.state / "config"

    def boot_facts(self) -> Dict[str, str]:
        """Return the facts that the initramfs left. Raises `AgentError` when this is no qtrade host."""
        try:
            lines = (self.run / "boot").read_text().splitlines()
        except OSError as error:
            raise AgentError(
                "host-foreign", f"{self.run}/boot is missing: this host runs no image of qtrade", "install it"
            ) from error
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @property
    def image_id(self) -> str:
        """Return the id of the running image."""
        return self.boot_facts()["image"]

    @property
    def name(self) -> str:
        """Return the host name."""
        return (self.etc / "hostname").read_text().strip()

    @property
    def boot_id(self) -> str:
        """Return the kernel's id of this boot."""
        return (self.proc / "sys/kernel/random/boot_id").read_text().strip()

    def ssh_host_key(self) -> str:
        """Return the public SSH host key, empty when there is none."""
        try:
            return (self.state / "host/ssh_host_ed25519_key.pub").read_text().strip()
        except OSError:
            return ""

    def os_disk(self) -> disks.Disk:
        """Return the disk that the system partition is on. Raises `AgentError`."""
        sources = disks.read_mounts(self.proc)
        own = [name for name, target in sources.items() if target == str(self.system)]
        found = [disk for disk in disks.discover(self.sys, self.dev) if own and own[0] in disk.partitions]
        if len(found) != 1 or not found[0].is_ours:
            raise AgentError(
                "disk-not-found",
                f"the disk of {self.system} cannot be told (mounted from {own or 'nothing'})",
                "install the host",
            )
        return found[0]

    @contextlib.contextmanager
    def esp(self) -> Iterator[Path]:
        """Mount the ESP for a while."""
        device = self.os_disk().partition_path("qtrade-esp")
        with (
            locked(self.run / "esp.lock"),
            mounts.mounted(device, self.run / "esp", "vfat", "rw", "noexec", "umask=0077", "quiet") as path,
        ):
            yield path

    @contextlib.contextmanager
    def esp_shown(self) -> Iterator[Path]:
        """Mount the ESP for a look."""
        device = self.os_disk().partition_path("qtrade-esp")
        with locked(self.run / "esp.lock"), mounts.shown(device, self.run / "esp", "vfat") as path:
            yield path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for a while: two agents cannot mount the ESP at once."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
