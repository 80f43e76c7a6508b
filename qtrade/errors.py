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
    # What to do where the place that raised it knows nothing better.
    usual_cure: ClassVar[str] = "run the same command again; `qtrade --debug …` shows where it failed"

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
        parts.append(f"To mend it: {self.resolution or self.usual_cure}")
        return "\n".join(parts)


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return what somebody meant who wrote `word`, if one of `known` is much like it, else an empty string."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.7)), "")


def choose_from(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the cure for a name that is none of `known`: the nearest of them, or all; `otherwise` where there is none."""
    names = list(dict.fromkeys(known))
    meant = near_miss(word, names)
    if meant:
        return f"did you mean {meant}? There are: {', '.join(names)}" if len(names) > 1 else f"did you mean {meant}?"
    return f"use one of: {', '.join(names)}" if names else otherwise


class UsageError(QtradeError):
    """The command line is wrong."""

    exit_code = 2
    usual_cure = "see the command's --help"


class BadInput(QtradeError):
    """A file that the user wrote is wrong."""

    exit_code = 3
    usual_cure = "correct it, and run the same command again"


class NotFound(QtradeError):
    """A named thing does not exist."""

    exit_code = 4
    usual_cure = "correct the name, or make what is missing"


class ToolError(QtradeError):
    """A program that qtrade runs failed, or is missing."""

    exit_code = 5
    usual_cure = "mend what the program says, and run the same command again"


class TrustError(QtradeError):
    """A signature, a digest or an identity does not hold."""

    exit_code = 6
    usual_cure = "do not use it: fetch or make it anew, and find out who changed it"


class Refused(QtradeError):
    """qtrade will not do this, because it could do harm."""

    exit_code = 7
    usual_cure = "nothing was done; change what stands above, and run the same command again"


class ConflictError(QtradeError):
    """Somebody else did it or holds it."""

    exit_code = 8
    usual_cure = "find out who else is at it, then run the same command again"


class HostError(QtradeError):
    """A host or its BMC did not do what was asked."""

    exit_code = 9
    usual_cure = "see `qtrade hosts show HOST` and the host's console; then run the same command again"
