"""Before a rollout is undone: what each host would boot, and why it may not, asked of all hosts side by side."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flash.agent_link import AgentLink
from flash.inventory import load_host
from flash.rollback_guard import choose_target, reasons_against
from flash.rollout.control import undoable
from flash.rollout.progress import HostState
from flash.ssh import target_for
from qtrade.errors import QtradeError, Refused
from qtrade.look import Row, render_plan
from qtrade.settings import Settings
from qtrade.store import Store, open_store

_SIDE_BY_SIDE = 16
_ANSWER_S = 30.0


@dataclass(frozen=True)
class HostReturn:
    """A host: the version that it would boot, empty where that is not known, and every reason why it may not."""

    host: str
    to: str
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class UndoPlan:
    """What undoing a rollout would do: `version` leaves `hosts`."""

    environment: str
    version: str
    to: str
    hosts: tuple[HostReturn, ...]


def plan_undo(settings: Settings, environment: str, to: str) -> UndoPlan:
    """Ask every host that the last rollout brought its version to. Raises `NotFound`, `Refused` where there is nothing to undo."""
    found = undoable(settings, environment)
    names = found.progress.names(HostState.COMMITTED, HostState.STARTED, HostState.RETURNING)
    store = open_store(settings)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        hosts = tuple(pool.map(lambda name: ask_return(settings, store, name, to), names))
    return UndoPlan(environment, found.plan.version, to, hosts)


def ask_return(settings: Settings, store: Store, name: str, to: str) -> HostReturn:
    """Return what one host would boot. A silent one may not go back: nobody knows what it has."""
    try:
        host = load_host(settings, name)
        status = AgentLink(target_for(settings, host)).status(timeout_s=_ANSWER_S)
        target = choose_target(settings, store, host, status, to or None)
        return HostReturn(name, target.version, reasons_against(settings, store, host, status, target))
    except QtradeError as error:
        return HostReturn(name, to, (error.brief,))


def check_fits(plan: UndoPlan) -> None:
    """Raise `Refused`, naming each host that may not go back: an environment that goes back in part is two fleets."""
    against = [one for one in plan.hosts if one.against]
    if against:
        raise Refused(
            f"{len(against)} of {len(plan.hosts)} host(s) may not go back from {plan.version}",
            details="\n".join(f"  {one.host}: {'; '.join(one.against)}" for one in against),
            resolution="choose another version with --to, or mend these; single hosts go back with `qtrade rollback --host …`",
        )


def render_undo(plan: UndoPlan, *, width: int | None = None) -> str:
    """Return it for people."""
    rows = [Row(one.host, f"to {one.to or '?'}", "; ".join(one.against) or "fits") for one in plan.hosts]
    title = f"undo {plan.version} in {plan.environment}: {len(plan.hosts)} host(s) boot what they have installed"
    return render_plan(title, rows, facts=[("downloads", "nothing")], width=width)
