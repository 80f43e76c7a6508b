"""What an environment keeps healthy while one of its hosts goes down: enough others of the role, and the one that takes over.

A host that is not healthy itself may always be flashed: that takes nothing away.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flash.agent_link import AgentLink
from flash.context import Evidence
from flash.inventory import list_hosts, load_host
from flash.readiness import PROGRAMS
from flash.ssh import target_for
from qtrade.errors import QtradeError, Refused
from qtrade.manifest import Environment, Host
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.leases import Leases

_AT_ONCE = 16
_ANSWER_S = 30.0
# Prints the state of the system, then what keeps a role's program from calling its service ready.
_HEALTH = "systemctl is-system-running; " + "; ".join(
    f"if command -v {program.name} >/dev/null; then {program.name} >/dev/null 2>&1 || echo {program.name} says not ready; fi"
    for program in PROGRAMS.values()
)

# Returns why a host does not count, empty where it does.
Ask = Callable[[Host], str]


@dataclass(frozen=True)
class Demand:
    """What has to stay healthy while `host` is down: `minimum` others of its role, and the `partner` that takes over (empty: none)."""

    host: str
    role: str
    minimum: int
    partner: str

    def describe(self) -> tuple[str, ...]:
        """Return it for a plan, a line each."""
        lines = (
            (f"{self.minimum} other healthy {self.role} host(s)", self.minimum > 0),
            (f"{self.partner} healthy, which takes over", bool(self.partner)),
        )
        return tuple(line for line, applies in lines if applies)


def demand_of(host: Host, environment: Environment) -> Demand:
    """Return what the environment demands while `host` is down."""
    minimum = environment.minimum_healthy.get(host.role, 0)
    return Demand(host.name, host.role, minimum, environment.failover.get(host.name, ""))


def require_available(
    settings: Settings, store: Store, host: Host, environment: Environment, *, ask: Ask | None = None
) -> Evidence:
    """Return which hosts stay healthy while `host` goes down. Raises `Refused`, with the reason of each that does not count.

    Nothing is asked where the environment demands nothing.
    """
    demand = demand_of(host, environment)
    if not demand.describe():
        return {}
    others = _others(settings, host, demand)
    asked = (host, *others)
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(asked))) as pool:
        answers = pool.map(ask or (lambda one: ask_host(settings, store, one, own=host.name)), asked)
        why_not = dict(zip((one.name for one in asked), answers, strict=True))
    if why_not.pop(host.name):
        return {"stays_healthy": None}
    of_role = {one.name for one in others if one.role == host.role}
    faults = tuple(judge(demand, why_not, of_role))
    if faults:
        raise Refused(
            f"{host.name} may not go down: {'; '.join(faults)}",
            details="\n".join(f"  {name}: {reason}" for name, reason in sorted(why_not.items()) if reason),
            resolution=f"mend or await these, or change minimum_healthy and failover of environment {environment.name}",
        )
    return {"stays_healthy": sorted(name for name, reason in why_not.items() if not reason)}


def judge(demand: Demand, why_not: dict[str, str], of_role: Iterable[str]) -> Iterator[str]:
    """Yield what is missing. `why_not` has a reason for each other host that does not count, `of_role` those of the same role. Pure."""
    healthy = [name for name in of_role if not why_not.get(name, "nobody asked")]
    if len(healthy) < demand.minimum:
        yield f"{len(healthy)} other {demand.role} host(s) are healthy, {demand.minimum} have to stay so"
    if demand.partner and why_not.get(demand.partner, "nobody asked"):
        yield f"{demand.partner}, which takes over for it, is not healthy"


def ask_host(settings: Settings, store: Store, host: Host, *, own: str) -> str:
    """Return why a host does not count as healthy, empty when it does. The host `own` may be held: by who asks."""
    try:
        return _held(store, host, own) or _unhealthy(settings, host)
    except QtradeError as error:
        return error.brief


def _others(settings: Settings, host: Host, demand: Demand) -> tuple[Host, ...]:
    every = [load_host(settings, name) for name in list_hosts(settings) if name != host.name]
    return tuple(
        one
        for one in every
        if one.environment == host.environment and (one.role == host.role or one.name == demand.partner)
    )


def _held(store: Store, host: Host, own: str) -> str:
    """Say who is at work on the host: it may go down at any moment."""
    lease = Leases(store.objects).read(host.name) if host.name != own else None
    if lease is None:
        return ""
    if lease.quarantine:
        return f"is in quarantine: {lease.quarantine}"
    return f"is held by {lease.holder}" if lease.is_held(time.time()) else ""


def _unhealthy(settings: Settings, host: Host) -> str:
    status = AgentLink(target_for(settings, host)).status(timeout_s=_ANSWER_S)
    if status["image"] != status["default"]:
        return "runs an image on trial"
    if status["state"] != "persistent":
        return "runs without its state partition"
    operator = target_for(settings, host, user=host.ssh.operator)
    lines = operator.run(_HEALTH, check=False, timeout_s=_ANSWER_S).stdout.splitlines()
    if lines[:1] != ["running"]:
        return f"its system is {lines[0] if lines else 'silent'}"
    return "; ".join(lines[1:])
