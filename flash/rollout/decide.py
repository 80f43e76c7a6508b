"""What a rollout does next, as a pure function of its plan, where it stands, and the time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flash.rollout.members import Member
from flash.rollout.progress import UNDER_WAY, Event, HostState, Phase, Progress
from flash.rollout.waves import CANARY, FIRST, RolloutPlan

_BAD = (HostState.FELL_BACK, HostState.STUCK)
# Of these nothing is known to be healthy.
_UNFIT = (HostState.SKIPPED, HostState.FELL_BACK, HostState.STUCK)


@dataclass(frozen=True)
class Begin:
    """Start these hosts: bring the version to them or, with `returns`, take them back."""

    hosts: tuple[str, ...]
    returns: bool = False


@dataclass(frozen=True)
class Write:
    """Journal this, then decide again."""

    event: Event
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """The hosts of the wave have been watched long enough: hear the judge."""

    wave: int


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until` (Unix seconds; None: before a host is through)."""

    why: str
    until: float | None = None


@dataclass(frozen=True)
class Stop:
    """The controller has nothing more to do: the rollout has ended, or is paused and nobody is under way."""


Decision = Begin | Write | Judge | Wait | Stop


def next_step(plan: RolloutPlan, progress: Progress, now: float) -> Decision:
    """Return what to do now."""
    under_way = progress.names(*UNDER_WAY)
    match progress.phase:
        case Phase.ROLLING:
            return _roll(plan, progress, now)
        case Phase.SOAKING:
            return _soak(plan, progress, now)
        case Phase.RETURNING:
            return _take_back(plan, progress)
        case Phase.ABORTING if not under_way:
            return Write(Event.ENDED, {"phase": Phase.ABORTED})
        case Phase.ABORTING | Phase.PAUSED if under_way:
            return Wait(f"{len(under_way)} host(s) are still under way")
        case _:
            return Stop()


def _roll(plan: RolloutPlan, progress: Progress, now: float) -> Decision:
    if progress.wave >= len(plan.waves):
        return Write(Event.ENDED, {"phase": Phase.DONE})
    over = _over_limits(plan, progress)
    if over is not None:
        return over
    waiting = progress.names(HostState.WAITING, wave=progress.wave)
    if waiting:
        return _start(plan, progress, waiting, now)
    if progress.names(*UNDER_WAY):
        return _await_hosts(plan, progress, now)
    return _close_wave(plan, progress)


def _over_limits(plan: RolloutPlan, progress: Progress) -> Write | None:
    """Fail or pause where too many hosts failed or were passed over."""
    policy, counts = plan.policy, progress.counts()
    bad, skipped = sum(counts[state] for state in _BAD), counts[HostState.SKIPPED]
    if bad > policy.failure_limit:
        return Write(Event.FAILED, {"why": _say_bad(progress, bad, policy.failure_limit)})
    if skipped * 100 > policy.skip_percent * len(progress.hosts):
        return _pause(f"{skipped} host(s) were passed over, more than {policy.skip_percent}%")
    return None


def _start(plan: RolloutPlan, progress: Progress, waiting: list[str], now: float) -> Decision:
    opens = plan.policy.opens(now)
    if opens > now:
        return Wait("outside of the windows", opens)
    chosen = tuple(_fitting(plan, progress, waiting))
    if chosen:
        return Begin(chosen)
    if not progress.names(*UNDER_WAY):
        return _pause(f"minimum_healthy leaves no room to start {waiting[0]}")
    return _await_hosts(plan, progress, now)


def _await_hosts(plan: RolloutPlan, progress: Progress, now: float) -> Decision:
    late = progress.moved + plan.policy.progress_deadline_s
    if now > late:
        return _pause(f"no host changed for {plan.policy.progress_deadline_s} s")
    return Wait(f"{len(progress.names(*UNDER_WAY))} host(s) are under way", late)


def _close_wave(plan: RolloutPlan, progress: Progress) -> Decision:
    """All hosts of the wave are settled: watch them; or take other canaries where a class has none that was committed."""
    wave = plan.waves[progress.wave]
    committed = progress.names(HostState.COMMITTED, wave=progress.wave)
    if wave.name == CANARY or (wave.name == FIRST and not committed):
        member = next(_other_canaries(plan, progress), None)
        if member is not None:
            why = f"no canary of {member.class_name} was committed"
            return Write(Event.MOVED, {"host": member.name, "wave": progress.wave, "why": why})
    if not progress.names(*HostState, wave=progress.wave):
        return Write(Event.PASSED, {"why": "its hosts went to the canary"})
    if not committed:
        return _pause(f"no host of wave {wave.name} was committed, so nothing can be judged")
    return Write(Event.SOAKING)


def _other_canaries(plan: RolloutPlan, progress: Progress) -> Iterator[Member]:
    """Yield the next host of each class whose canaries were all passed over."""
    met: set[str] = set()
    for member in plan.members:
        if progress.hosts[member.name].state is HostState.COMMITTED:
            met.add(member.class_name)
    for member in plan.members:
        if member.class_name not in met and progress.hosts[member.name].state is HostState.WAITING:
            met.add(member.class_name)
            yield member


def _soak(plan: RolloutPlan, progress: Progress, now: float) -> Decision:
    over = progress.soaking_since + plan.waves[progress.wave].soak_s
    return Judge(progress.wave) if now >= over else Wait("the wave is watched", over)


def _take_back(plan: RolloutPlan, progress: Progress) -> Decision:
    if progress.failure and not progress.blocked:
        return Write(Event.BLOCKED)
    chosen = tuple(_fitting(plan, progress, progress.names(HostState.COMMITTED), returns=True))
    if chosen:
        return Begin(chosen, returns=True)
    under_way = progress.names(*UNDER_WAY)
    if under_way:
        return Wait(f"{len(under_way)} host(s) are under way")
    return Write(Event.ENDED, {"phase": Phase.FAILED if progress.failure else Phase.UNDONE})


def _fitting(plan: RolloutPlan, progress: Progress, names: list[str], *, returns: bool = False) -> Iterator[str]:
    """Yield those of `names` that may go down now, together with what is under way, in their order."""
    policy = plan.policy
    members = plan.by_name
    down = {name: members[name] for name in progress.names(*UNDER_WAY)}
    per_role = Counter(one.role for one in down.values())
    per_account = Counter(one.account for one in down.values() if one.account)
    unfit = Counter(members[name].role for name in progress.names(*_UNFIT))
    caps = {
        role: min(
            policy.cap_of(role, size), size + plan.others.get(role, 0) - unfit[role] - plan.minimum_healthy.get(role, 0)
        )
        for role, size in plan.role_sizes.items()
    }
    for name in names:
        member = members[name]
        # What is bad goes back even where nobody else is healthy.
        cap = max(caps[member.role], 1 if returns else 0)
        partners = {member.partner} | {one.partner for one in down.values()}
        if len(down) >= policy.max_parallel:
            return
        if per_role[member.role] >= cap or partners & {name, *down}:
            continue
        if member.account and per_account[member.account] >= policy.per_account:
            continue
        down[name] = member
        per_role[member.role] += 1
        per_account[member.account] += 1
        yield name


def _say_bad(progress: Progress, bad: int, limit: int) -> str:
    named = [f"{name}: {progress.hosts[name].why or progress.hosts[name].state}" for name in progress.names(*_BAD)[:3]]
    return f"{bad} host(s) failed on the new version, {limit} may: {'; '.join(named)}"


def _pause(why: str) -> Write:
    return Write(Event.PAUSED, {"why": why})
