"""What of the state directory may go: a pure function of what lies there, who uses it and how old it is (`decide`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

_DAY_S = 86400.0


class Kind(StrEnum):
    """What lies in the state directory and is ever deleted. Everything else there stays: keys, pins, leases, caches, records of access."""

    FLASHES = "flashes"
    ROLLOUTS = "rollouts"
    LOGS = "logs"
    FAILED = "failed"
    WORK = "work"
    OUTPUTS = "outputs"
    TOOLS = "tools"
    PARTIAL = "partial"


@dataclass(frozen=True)
class Limits:
    """How long what may be useful still is kept. The last `flashes` of each host stay whatever their age."""

    days: float = 90.0
    flashes: int = 20
    failed_days: float = 7.0
    grace_s: float = _DAY_S


@dataclass(frozen=True)
class Item:
    """Something that may go as a whole. `paths` are relative to the state directory; `of` is whose it is: a host, environment or role.

    `needed` says who needs it, empty where nobody does. `size` in bytes as they are on disk, `age_s` since the last change.
    """

    kind: Kind
    of: str
    paths: tuple[str, ...]
    size: int
    age_s: float
    needed: str = ""


@dataclass(frozen=True)
class Kept:
    """Something that stays, with why."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What goes and what stays."""

    gone: tuple[Item, ...]
    kept: tuple[Kept, ...]

    @property
    def size(self) -> int:
        """Return the bytes that are freed."""
        return sum(item.size for item in self.gone)


def decide(items: Iterable[Item], limits: Limits) -> Verdict:
    """Return what may go. Of two rules that keep something, the first is told."""
    gone: list[Item] = []
    kept: list[Kept] = []
    ordered = sorted(items, key=lambda item: (item.kind, item.of, item.age_s, item.paths))
    for (kind, _), group in groupby(ordered, key=lambda item: (item.kind, item.of)):
        for rank, item in enumerate(group):
            reason = item.needed or _reason(kind, rank, item.age_s, limits)
            if reason:
                kept.append(Kept(item, reason))
            else:
                gone.append(item)
    return Verdict(tuple(gone), tuple(kept))


def _reason(kind: Kind, rank: int, age_s: float, limits: Limits) -> str:
    """Return why something that nobody needs stays all the same, empty where it goes. `rank` counts from the newest of its host."""
    if age_s <= limits.grace_s:
        return "younger than a day" if limits.grace_s == _DAY_S else f"younger than {limits.grace_s:.0f} s"
    match kind:
        case Kind.FLASHES if rank < limits.flashes:
            return f"one of the last {limits.flashes} of its host"
        case Kind.FLASHES | Kind.ROLLOUTS | Kind.LOGS | Kind.OUTPUTS if age_s <= limits.days * _DAY_S:
            return f"younger than {limits.days:g} days"
        case Kind.FAILED | Kind.PARTIAL | Kind.WORK if age_s <= limits.failed_days * _DAY_S:
            return f"younger than {limits.failed_days:g} days"
        case _:
            return ""
