"""What a process that was killed may leave on the machine: programs, mounts, loop devices."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def wait_for(condition: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes(text: str) -> list[str]:
    """Return the command lines of other processes that have `text` in their arguments, working directory or root."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            places = [str((process / name).readlink()) for name in ("cwd", "root")]
        except OSError:
            continue
        if any(text in item for item in (command, *places)):
            found.append(command)
    return found


def has_program(root: str, name: str) -> bool:
    """Return whether `name` runs in a chroot below the folder `root`."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == name and root in str((process / "root").readlink()):
                return True
    return False


def mounts(text: str) -> list[str]:
    """Return the mounts, in any namespace that a process is in, that have `text` in their line."""
    found = []
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            found += [line for line in table.read_text().splitlines() if text in line]
    return found


def loops(text: str) -> list[str]:
    """Return the loop devices whose file has `text` in its path."""
    backing = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [file for file in backing if text in file]
