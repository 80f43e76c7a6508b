"""What changed between two locks, in an order that people read."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bake.lock.document import Lock, LockedBuild, LockedComponent, LockedPackage, parse_lock, read_lock
from qtrade.errors import TrustError


class Kind(StrEnum):
    """What happened to an entry. `CHANGED` is the alarm: the same version with other bytes."""

    ADDED = "added"
    REMOVED = "removed"
    VERSION = "version"
    CHANGED = "digest"


@dataclass(frozen=True)
class Change:
    """One entry that differs: the part of the lock that it is in, its name, and its versions (digests for `CHANGED`)."""

    part: str
    name: str
    kind: Kind
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        match self.kind:
            case Kind.ADDED:
                return f"+ {self.part}: {self.name} {self.new}"
            case Kind.REMOVED:
                return f"- {self.part}: {self.name} {self.old}"
            case Kind.VERSION:
                return f"  {self.part}: {self.name} {self.old} -> {self.new}"
            case Kind.CHANGED:
                return f"! {self.part}: {self.name} has other bytes at the same version: {self.old} -> {self.new}"


def compare_locks(old: Lock | None, new: Lock) -> tuple[Change, ...]:
    """Return what differs, part by part."""
    before = old.packages() if old else {}
    after = new.packages()
    changes = []
    for part in (*after, *(part for part in before if part not in after)):
        changes += _compare(part, _by_name(before.get(part, ())), _by_name(after.get(part, ())))
    components = {name: _entry(item) for name, item in old.components.items()} if old else {}
    changes += _compare("component", components, {name: _entry(item) for name, item in new.components.items()})
    collections = {name: (item.version, item.sha256 or "") for name, item in old.collections.items()} if old else {}
    changes += _compare(
        "collection", collections, {name: (item.version, item.sha256 or "") for name, item in new.collections.items()}
    )
    return tuple(changes)


def describe_change(before: str | None, path: Path) -> str:
    """Return how the lock at `path` differs from an earlier text of it, line by line; empty where there is no lock. Raises `BadInput`."""
    new = read_lock(path)
    if new is None:
        return ""
    old = parse_lock(before, f"{path} of the last commit") if before else None
    return "\n".join(map(str, compare_locks(old, new)))


def check_alarms(changes: Iterable[Change], accepted: Iterable[str]) -> None:
    """Raise `TrustError` for bytes that changed under the same version, unless their names were accepted."""
    alarms = [change for change in changes if change.kind is Kind.CHANGED and change.name not in set(accepted)]
    if alarms:
        raise TrustError(
            f"{len(alarms)} thing(s) have other bytes than the lock says, at the same version",
            details="\n".join(str(change) for change in alarms),
            resolution="find out from upstream why; if it is right: "
            + " ".join(dict.fromkeys(f"--accept-changed {change.name}" for change in alarms)),
        )


def _entry(component: LockedComponent) -> tuple[str, str]:
    """Return version and digest of a component. A build has its key in its version: another key rightly gives other bytes."""
    version = component.version
    return (f"{version} ({component.key[:12]})" if isinstance(component, LockedBuild) else version), component.sha256


def _by_name(packages: Iterable[LockedPackage]) -> dict[str, tuple[str, str]]:
    return {package.name: (package.version, package.sha256) for package in packages}


def _compare(part: str, before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> list[Change]:
    changes = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            changes.append(Change(part, name, Kind.ADDED, new=new[0]))
        elif new is None and old is not None:
            changes.append(Change(part, name, Kind.REMOVED, old=old[0]))
        elif old is not None and new is not None and old[0] != new[0]:
            changes.append(Change(part, name, Kind.VERSION, old=old[0], new=new[0]))
        elif old is not None and new is not None and old[1] != new[1]:
            changes.append(Change(part, name, Kind.CHANGED, old=old[1], new=new[1]))
    return changes
