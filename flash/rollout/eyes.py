"""What a rollout sees of its hosts, and what it makes of it: the collector and the judge of `flash.judge`, by the environment's gates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flash.inventory import load_host
from flash.judge.answers import silent
from flash.judge.collect import Collector, Watched
from flash.judge.decide import judge
from flash.judge.record import WORST_FIRST, Finding, Judgement, Sample, Verdict
from flash.rollout.waves import RolloutPlan
from qtrade.errors import QtradeError
from qtrade.manifest import Image
from qtrade.manifest.gates import Gates
from qtrade.settings import Settings


class Eyes:
    """Look once at each host whenever asked. All are held against the new image: the judge asks that of canaries only."""

    def __init__(self, settings: Settings, image: Image, collector: Collector) -> None:
        self._settings, self._image, self._collector = settings, image, collector

    async def __call__(self, hosts: Sequence[str], since: float) -> Sequence[Sample]:
        """Return a sample of each metric of each host, all taken now; `since` is of no use to who keeps nothing."""
        del since
        watched, samples = [], []
        for name in hosts:
            try:
                watched.append(Watched(load_host(self._settings, name), self._image))
            except QtradeError as error:
                samples += silent(name, self._collector.now(), error.brief)
        if watched:
            samples += [one async for one in self._collector.observe(watched, interval_s=0.0, rounds=1)]
        return samples


@dataclass(frozen=True)
class ClassJudge:
    """Judge the canaries of each class beside the controls of the same class: hosts of two classes differ by more than the version.

    Where a class has no control, its hosts answer to the hard gates only.
    """

    gates: Gates
    class_of: Mapping[str, str]

    def __call__(
        self,
        samples: Iterable[Sample],
        canaries: Sequence[str],
        controls: Sequence[str],
        deployed_at: Mapping[str, float],
        until: float,
    ) -> Judgement:
        """As `flash.judge.decide.judge`."""
        findings: list[Finding] = []
        for name in sorted({self.class_of[host] for host in canaries}):
            own, others = self._of(name, canaries), self._of(name, controls)
            gates = self.gates if others else self.gates.hard_only()
            if not others:
                why = f"no host of {name} runs the old version: hard gates only"
                findings += [Finding("controls", host, Verdict.PASS, why) for host in own]
            findings += judge(gates, samples, own, others, deployed_at, until).findings
        if not canaries:
            return judge(self.gates, samples, (), (), deployed_at, until)
        findings.sort(key=lambda one: WORST_FIRST[one.verdict])
        return Judgement(findings[0].verdict, tuple(findings))

    def _of(self, name: str, hosts: Sequence[str]) -> tuple[str, ...]:
        return tuple(host for host in hosts if self.class_of[host] == name)


def judge_for(plan: RolloutPlan, gates: Gates, image: Image) -> ClassJudge:
    """Return the judge of a rollout: the gates that fit the image's roles, and looks as far apart as the rollout takes them."""
    fitting = gates.for_roles(tuple(one.role for one in image.layers)).model_copy(
        update={"interval_s": float(plan.policy.judge_every_s)}
    )
    return ClassJudge(fitting, {one.name: one.class_name for one in plan.members})
