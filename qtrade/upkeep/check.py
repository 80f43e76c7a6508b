"""What a check of `qtrade doctor` says."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """`missing` is what commands fail without; a `warning` costs time or safety, or will be missing one day."""

    GOOD = "good"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was found, and the command or the words that mend it (empty where all is good)."""

    name: str
    health: Health
    found: str
    cure: str = ""


def good(name: str, found: str) -> Check:
    """Return a check that found all well."""
    return Check(name, Health.GOOD, found)


def warning(name: str, found: str, cure: str) -> Check:
    """Return a check that found what can wait."""
    return Check(name, Health.WARNING, found, cure)


def missing(name: str, found: str, cure: str) -> Check:
    """Return a check that found what cannot wait."""
    return Check(name, Health.MISSING, found, cure)
