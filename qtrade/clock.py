"""Another clock for what a bake runs, so that `bake --verify` finds whoever reads it.

libfaketime (the Debian package of that name) shifts the wall clock of the programs that load it; the machine's own clock stays.
"""

import os
from pathlib import Path

from qtrade.errors import BadInput, ToolError

# Days that the clock is ahead; set for the second bake of `--verify` only.
VARIABLE = "QTRADE_CLOCK_AHEAD_DAYS"
# Where a root that has no such package finds the library.
INSIDE = "/run/qtrade/clock"
_FOLDERS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/faketime")
_LIBRARY = "libfaketimeMT.so.1"


def days_ahead() -> int:
    """Return how far the clock is to be ahead, in days; 0 for the machine's own. Raises `BadInput`."""
    text = os.environ.get(VARIABLE) or "0"
    if not text.isdecimal():
        raise BadInput(f"{VARIABLE}={text!r} is no number of days", resolution="unset it")
    return int(text)


def library() -> Path:
    """Return libfaketime. Raises `ToolError` where the machine does not have it."""
    for folder in _FOLDERS:
        path = Path(folder, _LIBRARY)
        if path.is_file():
            return path
    raise ToolError("libfaketime is not installed", resolution="install the package libfaketime, or run `make setup`")


def shifted(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command line of a `chroot` with its clock ahead, if it is to be; `binds` go with it.

    What runs beside a chroot keeps the machine's clock: a Python program that waits on a queue would wait for days.
    """
    days = days_ahead()
    if days == 0:
        return argv
    where = f"{library().parent}:{INSIDE}"
    names = {"LD_PRELOAD": _LIBRARY, "LD_LIBRARY_PATH": where, "FAKETIME": f"+{days}d"}
    names |= {"FAKETIME_DISABLE_SHM": "1", "NO_FAKE_STAT": "1"}  # files keep the times that they have
    return ("env", *(f"{name}={value}" for name, value in names.items()), *argv)


def binds() -> dict[str, str]:
    """Return what must be bound into a root where commands are `shifted`."""
    return {str(library().parent): INSIDE} if days_ahead() else {}
