"""The errors of qtrade. Each says in brief what happened, with details and the cure, and has an exit code by class.

QtradeError            1   something failed
+- UsageError          2   the command line is wrong
+- BadInput            3   a file of the user's is wrong (names file, field, value, cure)
+- NotFound            4   a named thing does not exist
+- ToolError           5   a program that qtrade runs failed
+- TrustError          6   a signature, digest or identity does not hold
+- Refused             7   qtrade will not do this, for safety
+- ConflictError       8   somebody else did or holds it (write-once, lease)
+- HostError           9   a host or its BMC did not do what was asked
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class QtradeError(Exception):
    """An error with a cure. `brief` is one line; `details` may be many; `resolution` says how to mend it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, brief: str, *, details: str = "", resolution: str = "") -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.resolution = resolution

    def render(self) -> str:
        """Return the text that people see, without a trailing newline."""
        parts = [f"error: {self.brief}"]
        if self.details:
            parts.append(self.details.rstrip())
        if self.resolution:
            parts.append(f"To mend it: {self.resolution}")
        return "\n".join(parts)


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return what somebody meant who wrote `word`, if one of `known` is much like it, else an empty string."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.7)), "")


def choose_from(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the cure for a name that is none of `known`: the nearest of them, or all; `otherwise` where there is none."""
    names = sorted(known)
    meant = near_miss(word, names)
    if meant:
        return f"did you mean {meant}? There are: {', '.join(names)}" if len(names) > 1 else f"did you mean {meant}?"
    return f"use one of: {', '.join(names)}" if names else otherwise


class UsageError(QtradeError):
    """The command line is wrong."""

    exit_code = 2


class BadInput(QtradeError):
    """A file that the user wrote is wrong."""

    exit_code = 3


class NotFound(QtradeError):
    """A named thing does not exist."""

    exit_code = 4


class ToolError(QtradeError):
    """A program that qtrade runs failed, or is missing."""

    exit_code = 5


class TrustError(QtradeError):
    """A signature, a digest or an identity does not hold."""

    exit_code = 6


class Refused(QtradeError):
    """qtrade will not do this, because it could do harm."""

    exit_code = 7


class ConflictError(QtradeError):
    """Somebody else did it or holds it."""

    exit_code = 8


class HostError(QtradeError):
    """A host or its BMC did not do what was asked."""

    exit_code = 9
