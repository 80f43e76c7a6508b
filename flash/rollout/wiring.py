"""The one place where a rollout gets its real hands, eyes and judge. Simulations and tests put their own here."""

from collections.abc import Iterable, Mapping, Sequence

from flash.judge.record import Finding, Judgement, Sample, Verdict
from flash.rollout.hands import CommandHands
from flash.rollout.journal import RolloutJournal
from flash.rollout.ports import Ports, WallClock
from flash.rollout.waves import RolloutPlan
from qtrade.settings import Settings


def ports_for(settings: Settings, plan: RolloutPlan, journal: RolloutJournal) -> Ports:
    """Return what a rollout works with."""
    return Ports(CommandHands(settings, plan, journal.logs), observe_hosts, judge_samples, WallClock())


async def observe_hosts(hosts: Sequence[str], since: float) -> Sequence[Sample]:
    """Return nothing: the collector of samples goes here."""
    del hosts, since
    return ()


def judge_samples(
    samples: Iterable[Sample],
    canaries: Sequence[str],
    controls: Sequence[str],
    deployed_at: Mapping[str, float],
    until: float,
) -> Judgement:
    """Say that nothing can be said: the judge goes here. A rollout pauses after its canary so."""
    del samples, controls, deployed_at, until
    return Judgement(
        Verdict.INCONCLUSIVE,
        tuple(Finding("judge", host, Verdict.INCONCLUSIVE, "no judge is built in yet") for host in canaries),
    )
