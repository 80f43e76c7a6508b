"""Runs the agent on a running host so that the kernel lets it write to the OS disk only, whatever a fault of it may try."""

import os
import sys
from pathlib import Path
from typing import List, Mapping

from .errors import AgentError
from .host import Host

_MARK = "QTRADE_CONFINED"
# Reading is needed to tell the protected disks; loop devices show the layers of an image that is not running.
_ALLOWED = ("block-* r", "block-loop rw", "/dev/loop-control rw", "/dev/tpm0 rw", "/dev/tpmrm0 rw")


def is_confined(environment: Mapping[str, str]) -> bool:
    """Say whether this process was started by `enter`."""
    return environment.get(_MARK) == "1"


def enter(host: Host, verb: str) -> None:
    """Start the agent again as a transient unit under a device policy; comes back only by `AgentError`."""
    arguments = render_command(_own_devices(host), verb, str(Path(__file__).resolve().parents[1]))
    try:
        os.execvp(arguments[0], arguments)  # noqa: S606 - the unit takes this process's place
    except OSError as error:
        raise AgentError(
            "confine-failed", f"systemd-run cannot be started: {error}", "run the agent on an installed host"
        ) from error


def render_command(devices: List[str], verb: str, folder: str) -> List[str]:
    """Return the command line that confines `verb` to writing to `devices`.

    `folder` is the one that the package is in.
    """
    allowed = [*_ALLOWED, *(f"{device} rw" for device in devices)]
    return [
        "systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec",
        "--property=DevicePolicy=closed", *(f"--property=DeviceAllow={one}" for one in allowed),
        f"--setenv={_MARK}=1", f"--setenv=PYTHONPATH={folder}", sys.executable, "-P", "-B", "-s", "-m", "agent", verb,
    ]  # fmt: skip


def _own_devices(host: Host) -> List[str]:
    try:
        disk = host.os_disk()
    except AgentError:
        # Then nothing may be written to; what needs no disk, such as a push, still works.
        return []
    return [str(disk.path.with_name(name)) for name in (disk.name, *disk.partitions)]
