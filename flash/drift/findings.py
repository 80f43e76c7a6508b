"""What a comparison finds."""

from dataclasses import dataclass
from enum import StrEnum

from qtrade.manifest import DriftKind


class Remedy(StrEnum):
    """What cures a finding. `qtrade drift --fix` does the first two; it never edits a host."""

    PUSH = "push"
    REBOOT = "reboot"
    HAND = "by hand"


@dataclass(frozen=True)
class Finding:
    """One difference. `subject` is what differs, such as a path, and what an ignore list names; `expected` and `found` say how.

    `hint` says what a person does about it where neither a push nor a reboot cures it.
    """

    kind: DriftKind
    subject: str
    what: str
    remedy: Remedy
    expected: str = ""
    found: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Ignored:
    """A finding that an ignore list names, and why."""

    finding: Finding
    reason: str
    expires: str
    by: str
