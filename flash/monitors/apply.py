"""Carry a plan out. Everything is checked before the first change; what was half done is found by the next plan."""

from dataclasses import dataclass

from flash.monitors.api import Gone, MonitoringApi, Unsure
from flash.monitors.data import read_mark
from flash.monitors.plan import Action, Change, MonitorsPlan
from qtrade.errors import ToolError
from qtrade.reporter import Reporter


@dataclass(frozen=True)
class Applied:
    """How many objects were created, updated, deleted, and left as they were."""

    created: int
    updated: int
    deleted: int
    kept: int


def apply_plan(api: MonitoringApi, plan: MonitorsPlan, reporter: Reporter) -> Applied:
    """Make the changes of the plan. Raises `ToolError` at the first that fails; run again to go on."""
    to_do = plan.to_do
    with reporter.step(f"check {len(to_do)} changes"):
        for change in to_do:
            if change.action is not Action.DELETE:
                api.validate(change.kind, dict(change.body))
    counts = dict.fromkeys(Action, 0)
    counts[Action.KEEP] = len(plan.changes) - len(to_do)
    for change in to_do:
        with reporter.step(f"{change.action} {change.kind} {change.key}"):
            _make(api, change, plan.environment)
        counts[change.action] += 1
    return Applied(counts[Action.CREATE], counts[Action.UPDATE], counts[Action.DELETE], counts[Action.KEEP])


def _make(api: MonitoringApi, change: Change, env: str) -> None:
    body = dict(change.body)
    match change.action:
        case Action.CREATE:
            _create(api, change, env)
        case Action.UPDATE:
            try:
                api.update(change.kind, change.id, body)
            except Gone:  # deleted by somebody since the plan was made
                _create(api, change, env)
        case Action.DELETE:
            api.delete(change.kind, change.id)
        case Action.KEEP:
            return


def _create(api: MonitoringApi, change: Change, env: str) -> None:
    """Create, and where the answer was lost look before trying once more: two alerts of one kind wake people twice."""
    try:
        api.create(change.kind, dict(change.body))
    except Unsure as unsure:
        if _is_there(api, change, env):
            return
        try:
            api.create(change.kind, dict(change.body))
        except Unsure as again:
            raise ToolError(
                again.brief, details=unsure.details, resolution="run the same command again later"
            ) from again


def _is_there(api: MonitoringApi, change: Change, env: str) -> bool:
    wanted = read_mark(change.kind, change.body)
    return any(one.kind is change.kind and read_mark(one.kind, one.body) == wanted for one in api.find(env))
