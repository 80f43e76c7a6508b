"""All hosts at a glance: what manifests, store and this state directory know of each, and, if asked, what each says itself."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from flash.agent_link import AgentLink
from flash.history import RunningVersion, running_versions
from flash.inventory import list_hosts, load_host
from flash.journal import latest
from flash.ssh import target_for
from qtrade.errors import QtradeError
from qtrade.look import render_table
from qtrade.manifest import Host
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.leases import Lease, Leases

_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Live:
    """What a host said just now; `problem` says why it said nothing."""

    answers: bool
    version: str = ""
    generation: str = ""
    problem: str = ""


@dataclass(frozen=True)
class HostRow:
    """A host. `state` is that of the last flash from this machine, empty where there was none; `held_by` who holds its lease now.

    `runs` is what its deploys left it with. `problem` says what is wrong with its manifest; the rest is empty then.
    """

    name: str
    environment: str = ""
    role: str = ""
    address: str = ""
    recipe: str = ""
    driver: str = ""
    state: str = ""
    held_by: str = ""
    quarantine: str = ""
    runs: RunningVersion | None = None
    live: Live | None = None
    problem: str = ""


@dataclass(frozen=True)
class HostList:
    """What `qtrade hosts list --json` prints."""

    hosts: tuple[HostRow, ...] = field(default=())


def look_over(settings: Settings, store: Store, *, live: bool = False) -> tuple[HostRow, ...]:
    """Return all hosts by environment and name. With `live`, hosts are asked side by side; one that is silent hides no other."""
    hosts, rows = _load_all(settings)
    runs = running_versions(store, {name: host.recipe for name, host in hosts.items()})
    leases = Leases(store.objects)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        held = dict(zip(hosts, pool.map(leases.read, hosts), strict=True))
        said = (
            dict(zip(hosts, pool.map(lambda host: _ask(settings, host), hosts.values()), strict=True)) if live else {}
        )
    for name, host in hosts.items():
        row = _row(settings, host, held[name])
        rows.append(replace(row, runs=runs[name], live=said.get(name)))
    return tuple(sorted(rows, key=lambda row: (row.environment, row.name)))


def render_hosts(rows: tuple[HostRow, ...], *, width: int | None = None) -> str:
    """Return the hosts for people, in columns."""
    head = ("HOST", "ENVIRONMENT", "ROLE", "ADDRESS", "RUNS", "STATE")
    table = [(row.name, row.environment, row.role, row.address, _runs(row), _state(row)) for row in rows]
    return render_table(head, table, width=width) if rows else "no hosts yet: `qtrade init` makes the first manifest"


def _load_all(settings: Settings) -> tuple[dict[str, Host], list[HostRow]]:
    hosts: dict[str, Host] = {}
    broken: list[HostRow] = []
    for name in list_hosts(settings):
        try:
            hosts[name] = load_host(settings, name)
        except QtradeError as error:
            broken.append(HostRow(name, problem=error.brief))
    return hosts, broken


def _row(settings: Settings, host: Host, lease: Lease | None) -> HostRow:
    journal = latest(settings.state_dir / "flashes" / host.name)
    is_held = lease is not None and lease.is_held(time.time())
    return HostRow(
        host.name,
        host.environment,
        host.role,
        host.address,
        host.recipe,
        host.driver.kind,
        state=(journal.state or "") if journal else "",
        held_by=lease.holder if lease is not None and is_held else "",
        quarantine=lease.quarantine if lease is not None else "",
    )


def _ask(settings: Settings, host: Host) -> Live:
    try:
        status = AgentLink(target_for(settings, host)).status(timeout_s=20)
    except QtradeError as error:
        return Live(answers=False, problem=f"{error.brief} {error.details}".strip()[:500])
    return Live(answers=True, version=status["version"], generation=status.get("generation", ""))


def _runs(row: HostRow) -> str:
    if row.live is not None and row.live.answers:
        return f"{row.recipe} {row.live.version}"
    if row.runs is None or row.runs.version is None:
        return f"{row.recipe} ?" if row.recipe else "?"
    return f"{row.recipe} {row.runs.version}{'?' if row.runs.unsettled else ''}"


def _state(row: HostRow) -> str:
    parts = [row.problem, f"quarantined: {row.quarantine}" if row.quarantine else ""]
    parts.append(f"held by {row.held_by}" if row.held_by else "")
    if row.live is not None and not row.live.answers:
        parts.append("does not answer")
    parts.append((row.runs.unsettled or "") if row.runs else "")
    return "; ".join(part for part in parts if part) or row.state or "-"
