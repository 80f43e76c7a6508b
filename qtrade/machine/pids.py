"""Processes that outlive a command: found again by what their command line says, ended by id and never by name."""

import os
import select
import signal
from pathlib import Path

_GRACE_S = 5.0


def read_command(pid: int) -> tuple[str, ...]:
    """Return the command line of a process that runs, else an empty tuple (also for a zombie)."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(raw.decode(errors="replace").rstrip("\0").split("\0")) if raw else ()


def is_ours(pid: int, marks: tuple[str, ...]) -> bool:
    """Say whether a process runs whose command line holds every one of `marks`."""
    command = "\0".join(read_command(pid))
    return bool(command) and all(mark in command for mark in marks)


def find_processes(marks: tuple[str, ...]) -> list[int]:
    """Return the ids of all processes, but this one, whose command line holds every one of `marks`."""
    ids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted(pid for pid in ids if pid != os.getpid() and is_ours(pid, marks))


def end_process(pid: int, marks: tuple[str, ...], *, sign: signal.Signals = signal.SIGTERM) -> bool:
    """End a process that bears `marks`: `sign`, five seconds, SIGKILL. Return whether there was one.

    The process is held by a descriptor while it is checked, so that an id used again is never hit.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not is_ours(pid, marks):
            return False
        for each in (sign, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, each)
            if select.select([descriptor], [], [], _GRACE_S)[0]:
                break
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
    return True


def read_start_time(pid: int) -> str | None:
    """Return when a process started (kernel ticks) or None when there is none. Start and id name a process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
