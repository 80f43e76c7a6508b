"""What has to be done so that Datadog holds what the data says. Pure: wanted and found in, changes out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flash.monitors.data import Kind, Wanted, read_mark
from qtrade import look
from qtrade.look import Row

_SHOWN = 60
# They hold the digest, which says that something differs, but not what.
_MARKED = ("tags", "description")


class Action(StrEnum):
    """What is done to an object."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True)
class Found:
    """An object that Datadog has, whoever made it."""

    kind: Kind
    id: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One step of the plan. `id` is Datadog's, empty for what is not there yet."""

    action: Action
    kind: Kind
    key: str
    reason: str
    id: str = ""
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class MonitorsPlan:
    """All changes of one environment, in the order in which they are made."""

    environment: str
    version: str
    site: str
    changes: tuple[Change, ...]

    @property
    def to_do(self) -> tuple[Change, ...]:
        """Return the changes that change something."""
        return tuple(change for change in self.changes if change.action is not Action.KEEP)


def plan_changes(wanted: Iterable[Wanted], found: Iterable[Found], env: str) -> tuple[Change, ...]:
    """Return the changes: what is missing is created before anything unneeded goes. What bears no mark of ours is left alone."""
    ours: dict[tuple[Kind, str], list[Found]] = {}
    for one in sorted(found, key=lambda one: (one.kind, len(one.id), one.id)):
        mark = read_mark(one.kind, one.body)
        if mark and mark.env == env:
            ours.setdefault((one.kind, mark.key), []).append(one)
    changes = []
    for one_wanted in wanted:
        there = ours.pop((one_wanted.kind, one_wanted.key), [])
        changes += _plan_one(one_wanted, there)
    for (kind, key), there in ours.items():
        changes += [Change(Action.DELETE, kind, key, "the data has it no more", one.id) for one in there]
    return tuple(sorted(changes, key=lambda change: (_ORDER[change.action], change.kind, change.key)))


_ORDER = {Action.CREATE: 0, Action.UPDATE: 1, Action.DELETE: 2, Action.KEEP: 3}


def render_plan(plan: MonitorsPlan, *, width: int | None = None) -> str:
    """Return the plan as people read it: one line per change, what stays as a count."""
    kept = len(plan.changes) - len(plan.to_do)
    title = f"monitors of {plan.environment} on {plan.site}, metrics as in {plan.version}"
    rows = [Row(change.action, f"{change.kind} {change.key}", change.reason) for change in plan.to_do]
    return look.render_plan(f"{title}: {len(plan.to_do)} to change, {kept} as they have to be", rows, width=width)


def _plan_one(wanted: Wanted, there: list[Found]) -> list[Change]:
    kind, key = wanted.kind, wanted.key
    if not there:
        return [Change(Action.CREATE, kind, key, "not there", body=wanted.body)]
    first, *others = there
    doubles = [Change(Action.DELETE, kind, key, f"a second one beside {first.id}", one.id) for one in others]
    if kind is Kind.MONITOR and not _same_type(wanted.body, first.body):
        reason = f"its type becomes {wanted.body['type']}, which Datadog cannot change"
        gone = Change(Action.DELETE, kind, key, reason, first.id)
        return [Change(Action.CREATE, kind, key, reason, body=wanted.body), gone, *doubles]
    content = {name: value for name, value in wanted.body.items() if name not in _MARKED}
    difference = find_difference(content, first.body) or find_difference(wanted.body, first.body)
    action = Action.UPDATE if difference else Action.KEEP
    return [Change(action, kind, key, difference or "as it has to be", first.id, wanted.body), *doubles]


def _same_type(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    # Datadog turns one into the other by itself.
    alike = {"metric alert": "query alert"}
    types = [str(body.get("type")) for body in (wanted, found)]
    return len({alike.get(one, one) for one in types}) == 1


def find_difference(wanted: Any, found: Any, where: str = "") -> str:
    """Return the first place where `found` lacks what is wanted, empty for none. What Datadog adds of its own does not count."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for name, value in wanted.items():
            inner = f"{where}.{name}".lstrip(".")
            if inner == "type":
                continue
            difference = find_difference(value, found.get(name), inner)
            if difference:
                return difference
        return ""
    if isinstance(wanted, list | tuple) and isinstance(found, list | tuple):
        return _find_in_list(wanted, found, where)
    return "" if wanted == found else f"{where} is {found!r:.{_SHOWN}}, has to be {wanted!r:.{_SHOWN}}"


def _find_in_list(wanted: Iterable[Any], found: Iterable[Any], where: str) -> str:
    left, right = list(wanted), list(found)
    if where == "tags":
        left, right = sorted(map(str, left)), sorted(map(str, right))
    if len(left) != len(right):
        return f"{where} has {len(right)} entries, has to have {len(left)}"
    for number, (one, other) in enumerate(zip(left, right, strict=True)):
        difference = find_difference(one, other, f"{where}[{number}]")
        if difference:
            return difference
    return ""
