"""Whom the judge hears of: hosts on the new version, and hosts to compare them with. Pure."""

from collections import Counter
from dataclasses import dataclass

from flash.rollout.progress import HostState, Progress
from flash.rollout.waves import CANARY, FIRST, RolloutPlan


@dataclass(frozen=True)
class Panel:
    """`canaries` run the new version, since `deployed_at` (Unix seconds); `since` is when the first of them was committed."""

    canaries: tuple[str, ...]
    controls: tuple[str, ...]
    deployed_at: dict[str, float]
    since: float


def choose_panel(plan: RolloutPlan, progress: Progress) -> Panel:
    """Return the hosts of this wave, and the canaries, that were committed; and for each class, controls.

    Controls run the old version. Where a class has none any more, those are taken that passed an earlier wave.
    """
    members = plan.by_name
    committed = progress.names(HostState.COMMITTED)
    watched = {number for number, wave in enumerate(plan.waves) if wave.name in (FIRST, CANARY)} | {progress.wave}
    canaries = tuple(name for name in committed if progress.hosts[name].wave in watched)
    classes = {members[name].class_name for name in canaries}
    controls: list[str] = []
    taken: Counter[str] = Counter()
    # The last to be started are controls for longest, so that one series goes through all waves.
    old = reversed(progress.names(HostState.WAITING))
    passed = [name for name in committed if progress.hosts[name].wave < progress.wave and name not in canaries]
    for name in (*old, *passed):
        kind = members[name].class_name
        if kind in classes and taken[kind] < plan.policy.controls_per_class:
            taken[kind] += 1
            controls.append(name)
    deployed = {name: progress.hosts[name].at for name in canaries}
    return Panel(canaries, tuple(controls), deployed, min(deployed.values(), default=0.0))
