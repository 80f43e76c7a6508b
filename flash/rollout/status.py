"""How a rollout stands, for people and programs, and waiting for its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flash.rollout.control import Rollout, check_ended_well, find_rollout, holder_of
from flash.rollout.progress import ENDS, HostState, Phase
from qtrade.errors import NotFound, QtradeError
from qtrade.look import Row, render_plan, render_table
from qtrade.settings import Settings
from qtrade.store import open_store

_POLL_S = 2.0
_QUIET = (HostState.WAITING, HostState.COMMITTED, HostState.RETURNED)


@dataclass(frozen=True)
class WaveStatus:
    """A wave: how many of its hosts are in each state, and what the judge said of it; empty while he said nothing."""

    name: str
    soak_s: int
    hosts: dict[str, int]
    verdict: str


@dataclass(frozen=True)
class HostStatus:
    """A host: its wave from 1, its state since `at` (Unix seconds), and why."""

    name: str
    class_name: str
    wave: int
    state: str
    at: float
    why: str


@dataclass(frozen=True)
class RolloutStatus:
    """What `qtrade rollout status --json` prints. `holder` runs it now, empty where nobody does; times are Unix seconds."""

    environment: str
    id: str
    recipe: str
    version: str
    image: str
    phase: str
    wave: int
    why: str
    failure: str
    findings: tuple[dict[str, Any], ...]
    blocked: bool
    holder: str
    began: float
    moved: float
    waves: tuple[WaveStatus, ...] = ()
    hosts: tuple[HostStatus, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def read_status(settings: Settings, environment: str) -> RolloutStatus:
    """Return how the last rollout of an environment stands. Raises `NotFound`."""
    found = find_rollout(settings, environment)
    if found is None:
        raise NotFound(
            f"environment {environment} had no rollout",
            resolution=f"start one with `qtrade rollout start --env {environment} --version …`",
        )
    holder = holder_of(open_store(settings), environment)
    return status_of(found, holder=f"{holder.holder} (process {holder.pid})" if holder else "")


def status_of(rollout: Rollout, *, holder: str = "") -> RolloutStatus:
    """Return a rollout as a document."""
    plan, progress = rollout.plan, rollout.progress
    waves = []
    for number, wave in enumerate(plan.waves):
        counts = {state: len(progress.names(state, wave=number)) for state in HostState}
        found = {str(state): count for state, count in counts.items() if count}
        waves.append(WaveStatus(wave.name, wave.soak_s, found, progress.verdicts.get(str(number), "")))
    hosts = tuple(
        HostStatus(name, plan.by_name[name].class_name, one.wave + 1, one.state, one.at, one.why)
        for name, one in progress.hosts.items()
    )
    return RolloutStatus(
        environment=plan.environment,
        id=rollout.journal.id,
        recipe=plan.recipe,
        version=plan.version,
        image=plan.image,
        phase=progress.phase,
        wave=min(progress.wave + 1, len(plan.waves)),
        why=progress.why,
        failure=progress.failure,
        findings=progress.findings,
        blocked=progress.blocked,
        holder=holder,
        began=progress.began,
        moved=progress.moved,
        waves=tuple(waves),
        hosts=hosts,
        counts={str(state): count for state, count in progress.counts().items() if count},
    )


def render_status(status: RolloutStatus, *, width: int | None = None) -> str:
    """Return it for people: phase and waves, and each host that is not where it should be."""
    facts = [
        ("phase", f"{status.phase}, wave {status.wave} of {len(status.waves)}"),
        ("run by", status.holder or "nobody"),
    ]
    facts += [("why", status.why)] if status.why else []
    facts += [("image", f"{status.image[:16]}… is blocked")] if status.blocked else []
    for one in status.findings:
        sample = one.get("sample") or {}
        seen = (
            f"; {sample.get('metric')} was {sample.get('value')} {sample.get('detail', '')}".rstrip() if sample else ""
        )
        facts.append(("finding", f"gate {one.get('gate')} on {one.get('host')}: {one.get('why')}{seen}"))
    rows = [
        Row(f"{number} {wave.name}", ", ".join(f"{count} {state}" for state, count in wave.hosts.items()), wave.verdict)
        for number, wave in enumerate(status.waves, start=1)
    ]
    title = f"rollout of {status.recipe} {status.version} to {status.environment}"
    text = render_plan(title, rows, facts=facts, width=width)
    odd = [(one.name, one.state, one.why or "-") for one in status.hosts if one.state not in _QUIET]
    return text if not odd else f"{text}\n{render_table(('host', 'state', 'why'), odd, width=width)}"


def watch(
    settings: Settings, environment: str, *, timeout_s: float, tell: Callable[[RolloutStatus], None]
) -> RolloutStatus:
    """Wait for the end of the rollout, as `kubectl rollout status` does, and tell each change.

    Raises `QtradeError` (exit code 1) when it is not DONE or UNDONE: it failed, is paused, was aborted, nobody runs it, or time is up.
    """
    until = time.monotonic() + timeout_s
    told: tuple[object, ...] = ()
    while True:
        status = read_status(settings, environment)
        if (status.phase, status.wave, status.counts) != told:
            told = (status.phase, status.wave, status.counts)
            tell(status)
        if status.phase in ENDS or status.phase == Phase.PAUSED:
            _raise_unless_well(settings, environment)
            return status
        if time.monotonic() >= until:
            raise QtradeError(
                f"the rollout to {environment} has not ended after {timeout_s:.0f} s: {status.phase}, wave {status.wave}",
                details=f"run by {status.holder or 'nobody'}",
                resolution="wait longer with --timeout"
                if status.holder
                else f"run `qtrade rollout resume --env {environment}`: its controller has gone",
            )
        time.sleep(min(_POLL_S, max(until - time.monotonic(), 0)))


def _raise_unless_well(settings: Settings, environment: str) -> None:
    found = find_rollout(settings, environment)
    if found is None:
        return
    try:
        check_ended_well(found)
    except QtradeError as error:
        raise QtradeError(error.brief, details=error.details, resolution=error.resolution) from error
