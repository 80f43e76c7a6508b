"""Runs the agent on a running host so that the kernel lets it write to the OS disk only, whatever a fault of it may try.

`/usr/bin/qtrade-agent` does so itself by the command that `note` has left at the boot: a Python that only starts another one costs a push
of a slow host a second.
"""

import os
import sys
import time
from pathlib import Path
from typing import List, Mapping

from . import durable
from .errors import AgentError
from .host import Host

_MARK = "QTRADE_CONFINED"
# The process that asked for the unit, which waits for its end: above it is the connection that a job came over.
_CALLER = "QTRADE_CALLER"
# Reading is needed to tell the protected disks; loop devices show the layers of an image that is not running.
_ALLOWED = ("block-* r", "block-loop rw", "/dev/loop-control rw", "/dev/tpm0 rw", "/dev/tpmrm0 rw")


def is_confined(environment: Mapping[str, str]) -> bool:
    """Say whether this process was started by `enter`."""
    return environment.get(_MARK) == "1"


def enter(host: Host, verb: str) -> None:
    """Start the agent again as a transient unit under a device policy; comes back only by `AgentError`."""
    arguments = render_command(_own_devices(host), verb)
    try:
        os.execvpe(arguments[0], arguments, {**os.environ, _CALLER: str(os.getpid())})  # noqa: S606 - the unit takes this process's place
    except OSError as error:
        raise AgentError(
            "confine-failed", f"systemd-run cannot be started: {error}", "run the agent on an installed host"
        ) from error


def note(host: Host) -> None:
    """Leave the command that confines the verb `run`, one argument a line: disks keep their names until the next boot."""
    lines = "".join(f"{word}\n" for word in render_command(_own_devices(host), "run"))
    durable.write_file(host.run / "confined", lines.encode(), 0o600)


def render_command(devices: List[str], verb: str) -> List[str]:
    """Return the command line that confines `verb` to writing to `devices`; who runs it sets `QTRADE_CALLER` to its own process id."""
    return [
        "systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", f"--setenv={_CALLER}",
        *render_agent([*_ALLOWED, *(f"{one} rw" for one in devices)], verb),
    ]  # fmt: skip


def render_agent(allowed: List[str], verb: str) -> List[str]:
    """Return what is to follow `systemd-run` and its options: the agent's `verb` in a unit that may use the `allowed` devices only."""
    return [
        "--property=DevicePolicy=closed", *(f"--property=DeviceAllow={one}" for one in allowed), f"--setenv={_MARK}=1",
        f"--setenv=PYTHONPATH={Path(__file__).resolve().parents[1]}", sys.executable, "-P", "-B", "-S", "-m", "agent", verb,
    ]  # fmt: skip


def connected_at(environment: Mapping[str, str], proc: Path) -> float:
    """Return when the connection was made that this process's job came over, in seconds since the boot."""
    caller = environment.get(_CALLER, "")
    return connection_time(proc, int(caller)) if caller.isdigit() else time.clock_gettime(time.CLOCK_BOOTTIME)


def connection_time(proc: Path, pid: int) -> float:
    """Return when the nearest sshd above process `pid` started, in seconds since the boot: one serves all commands of a connection.

    Where there is none, nobody came over SSH, and the time is now.
    """
    while pid > 1:
        # The second field is the name in parentheses, which may hold anything.
        head, _, tail = (proc / str(pid) / "stat").read_text().rpartition(")")
        fields = tail.split()
        if head.partition("(")[2].startswith("sshd"):
            return int(fields[19]) / os.sysconf("SC_CLK_TCK")
        pid = int(fields[1])
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _own_devices(host: Host) -> List[str]:
    try:
        disk = host.os_disk()
    except AgentError:
        # Then nothing may be written to; what needs no disk, such as a push, still works.
        return []
    return [str(disk.path.with_name(name)) for name in (disk.name, *disk.partitions)]
