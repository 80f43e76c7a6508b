"""Pushes of many hosts side by side: planned together, asked for once; one that fails stops no other and hides no other's outcome."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from flash.access import HeldAccess, HostAccess, held_access
from flash.inventory import list_hosts, load_host
from flash.push import Order, Prepared, PushResult, carry_out, planned_push, prepare
from flash.push_plan import PushPlan
from qtrade.errors import NotFound, QtradeError
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store

_SIDE_BY_SIDE = 16
_T = TypeVar("_T")
_MIXED = QtradeError.exit_code


@dataclass(frozen=True)
class Outcome:
    """What became of one host: its plan, what was done, or why not."""

    host: str
    plan: PushPlan | None = None
    result: PushResult | None = None
    error: QtradeError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the outcome for programs."""
        error = self.error
        return {
            "host": self.host,
            "plan": asdict(self.plan) if self.plan else None,
            "result": asdict(self.result) if self.result else None,
            "error": None
            if error is None
            else {
                "class": type(error).__name__,
                "exit_code": error.exit_code,
                "brief": error.brief,
                "details": error.details,
                "resolution": error.resolution,
            },
        }


def hosts_of(settings: Settings, environment: str) -> tuple[str, ...]:
    """Return the names of the hosts of an environment. Raises `NotFound` where there is none, `BadInput` for a wrong manifest."""
    names = tuple(name for name in list_hosts(settings) if load_host(settings, name).environment == environment)
    if not names:
        raise NotFound(
            f"environment {environment} has no hosts",
            resolution="name another one, or write `environment` into a host's manifest",
        )
    return names


def push_hosts(
    settings: Settings,
    names: Sequence[str],
    reporter: Reporter,
    ask: Callable[[Sequence[PushPlan]], None],
    order: Order | None = None,
) -> list[Outcome]:
    """Hold and plan all hosts, let `ask` see the plans and refuse them, then push side by side. Returns an outcome for each host."""
    with ExitStack() as held:
        planned = _side_by_side(
            names, lambda name: held.enter_context(planned_push(_hold(held, settings, name, reporter), order))
        )
        ready = {one.plan.host: one for one in planned.values() if isinstance(one, Prepared)}
        ask([one.plan for one in ready.values()])
        done = _side_by_side(tuple(ready), lambda name: carry_out(ready[name]))
        return [_outcome(name, planned[name], done.get(name)) for name in names]


def plan_hosts(
    settings: Settings, names: Sequence[str], reporter: Reporter, order: Order | None = None
) -> list[Outcome]:
    """Plan only: hosts are asked what they have, nobody is held and nothing is sent."""

    def plan(name: str) -> Prepared:
        access = HeldAccess(settings, load_host(settings, name), open_store(settings), reporter, 0, lambda: None)
        access.check_login()
        return prepare(access, order)

    planned = _side_by_side(names, plan)
    return [_outcome(name, planned[name], None) for name in names]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 0, the code of the one class that all failures have, or 1 for failures of several classes."""
    codes = {one.error.exit_code for one in outcomes if one.error is not None}
    return _MIXED if len(codes) > 1 else next(iter(codes), 0)


def _hold(held: ExitStack, settings: Settings, name: str, reporter: Reporter) -> HostAccess:
    return held.enter_context(held_access(settings, open_store(settings), load_host(settings, name), reporter))


def _side_by_side(names: Sequence[str], do: Callable[[str], _T]) -> dict[str, _T | QtradeError]:
    def attempt(name: str) -> _T | QtradeError:
        try:
            return do(name)
        except QtradeError as error:
            return error

    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, max(len(names), 1))) as pool:
        return dict(zip(names, pool.map(attempt, names), strict=True))


def _outcome(name: str, planned: Prepared | QtradeError, done: PushResult | QtradeError | None) -> Outcome:
    if isinstance(planned, QtradeError):
        return Outcome(name, error=planned)
    if isinstance(done, QtradeError):
        return Outcome(name, planned.plan, error=done)
    return Outcome(name, planned.plan, done)
