"""Errors of the command line's parser and of the system, as errors of qtrade: with a class, and a cure."""

import errno
import re
from typing import Any

import typer

from qtrade.errors import QtradeError, UsageError, near_miss

# typer brings its own click, older versions of it use the other: both are the bases of what it shows.
PARSER_ERRORS: tuple[type[Exception], ...] = tuple(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException" and issubclass(base, Exception)
)
ABORTED = typer.Abort

_CURES = {
    errno.EACCES: "run it as the account that owns it, or change its permissions",
    errno.EPERM: "run it as the account that owns it, or change its permissions",
    errno.ENOSPC: "free some space there (`qtrade images gc` deletes what nothing needs), then run the same command again",
    errno.EDQUOT: "free some space there (`qtrade images gc` deletes what nothing needs), then run the same command again",
    errno.EROFS: "mount it writable, or set QTRADE_STATE_DIR and QTRADE_STORE to places that are",
    errno.ENOTDIR: "a file stands where a folder belongs: move it away, or set QTRADE_STATE_DIR to another place",
    errno.EISDIR: "a folder stands where a file belongs: move it away",
    errno.ENOENT: "make what is missing, or correct its name",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.EIO: "the disk fails to read or write there: see the kernel's log",
}


def explain_system(error: OSError) -> QtradeError:
    """Return what the system's own words mean here: a full disk, a missing permission."""
    words = error.strerror or str(error)
    place = f"{error.filename}: " if error.filename else ""
    return QtradeError(f"{place}{words}", resolution=_CURES.get(error.errno or 0, ""))


def explain_usage(error: Any) -> UsageError:
    """Return what the parser has against the command line, with the nearest name and the way to the help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "qtrade"
    text = error.format_message().rstrip(".")
    meant = getattr(error, "possibilities", None) or re.findall(r"Did you mean '([^']*)'", text)
    text = text.partition(" (Possible options:")[0].partition(" Did you mean")[0].rstrip(".")
    nearest = near_miss(text.rpartition(" ")[2].strip("'"), meant) or next(iter(sorted(meant)), "")
    hint = f"did you mean {nearest}? Else see" if nearest else "see"
    return UsageError(f"{command}: {text[:1].lower()}{text[1:]}", resolution=f"{hint} `{command} --help`")
