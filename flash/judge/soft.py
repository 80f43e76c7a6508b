"""Soft gates: a canary against control hosts, which run the old version in the same minutes, and against itself before the deploy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from flash.judge.compare import COMPARISONS, Bench, Host, compare
from flash.judge.record import Finding, Verdict
from flash.judge.series import Series, rates
from qtrade.manifest.gates import GateKind, Gates, SoftGate
from qtrade.manifest.metrics import METRICS, Metric

_MOST_CONTROLS = 30
# What does not come may be what is slowest: beyond so many looks, in all or in a row at the end, the others tell too little.
_MOST_MISSING = 0.2
_STALE_LOOKS = 5
_WEIGHT = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2}


@dataclass(frozen=True)
class Question:
    """A soft gate for one canary: what was recorded, when it got the new version, and until when; `judged` counts all such questions."""

    gates: Gates
    metric: Metric
    series: Series
    canary: str
    deployed_at: float
    until: float
    judged: int

    @property
    def gate(self) -> SoftGate:
        """The gate."""
        return self.gates.soft[self.metric]

    def soaked(self, name: str) -> Host:
        """Return a host's values of the canary's soak."""
        return self._host(name, self.deployed_at + self.gates.warm_up_s, self.until)

    def before(self, name: str) -> Host:
        """Return a host's values from before the canary got the new version."""
        return self._host(name, -math.inf, self.deployed_at)

    def lost(self) -> str:
        """Return what makes the canary's values too few to speak for it, empty where nothing does."""
        start, interval_s = self.deployed_at + self.gates.warm_up_s, self.gates.interval_s
        looks = self.series.looks(self.canary, self.metric, start, self.until, apart_s=interval_s / 2)
        came = [point.at for point in looks if point.value is not None]
        missing = len(looks) - len(came)
        if came and self.until - came[-1] > _STALE_LOOKS * interval_s:
            return f"no value for the last {self.until - came[-1]:.0f} s"
        if missing > _MOST_MISSING * len(looks):
            return f"{missing} of {len(looks)} looks brought no value"
        return ""

    def _host(self, name: str, start: float, until: float) -> Host:
        pairs = rates(self.series.looks(name, self.metric, start, until, apart_s=self.gates.interval_s / 2))
        return Host(name, tuple(value for value, _ in pairs), tuple(point for _, point in pairs))


def judge_soft(asked: Question, controls: Sequence[str]) -> Finding:
    """Say what the gate says of a canary against the controls.

    The chance of a false alarm is shared out among all questions of a judgement (Bonferroni); a pass needs the full confidence each time.
    """
    gates, gate = asked.gates, asked.gate
    own, others = asked.soaked(asked.canary), _choose(asked, controls)
    enough = [one for one in others if len(one.values) >= gate.minimum_samples]
    last = own.points[-1].sample if own.points else None
    say = Finding(asked.metric, asked.canary, Verdict.INCONCLUSIVE, "", last, GateKind.SOFT)
    if len(own.values) < gate.minimum_samples:
        return replace(say, why=f"{len(own.values)} values so far, {gate.minimum_samples} are needed")
    if len(enough) < max(1, gates.minimum_controls):
        named = ", ".join(f"{one.name} {len(one.values)}" for one in others) or "there is none"
        needed = f"{max(1, gates.minimum_controls)} control hosts with {gate.minimum_samples} values are needed"
        return replace(say, why=f"{needed}, {len(enough)} have them ({named})")
    doubt = 1 - gates.confidence
    bench = Bench(gate, METRICS[asked.metric], doubt / (asked.judged * COMPARISONS), doubt)
    decides = max(compare(bench, own, enough), key=lambda one: _WEIGHT[one.verdict])
    if decides.verdict is Verdict.FAIL and _was_so(bench, own, asked.before(asked.canary), _before(asked, enough)):
        return replace(say, why=f"{decides.why}; but so it was before the deploy", sample=decides.point.sample)
    if decides.verdict is Verdict.PASS and (lost := asked.lost()):
        return replace(say, why=lost)
    return replace(say, verdict=decides.verdict, why=decides.why, sample=decides.point.sample)


def _choose(asked: Question, controls: Sequence[str]) -> list[Host]:
    """Return the controls in the order of their names; of a large fleet as many as tell enough, from all over it."""
    names = sorted(controls)
    strides = range(-(-len(names) // _MOST_CONTROLS))
    found: list[Host] = []
    enough = 0
    for name in (name for offset in strides for name in names[offset :: len(strides)]):
        found.append(asked.soaked(name))
        enough += len(found[-1].values) >= asked.gate.minimum_samples
        if enough == _MOST_CONTROLS:
            break
    return sorted(found, key=lambda one: one.name)


def _before(asked: Question, controls: Sequence[Host]) -> list[Host]:
    found = [asked.before(control.name) for control in controls]
    return [one for one in found if len(one.values) >= asked.gate.minimum_samples]


def _was_so(bench: Bench, own: Host, before: Host, controls: Sequence[Host]) -> bool:
    """Say whether the host was as much worse than the controls before it got the new version: then the version is not the reason."""
    if len(before.values) < bench.gate.minimum_samples or not controls:
        return False
    failed = any(one.verdict is Verdict.FAIL for one in compare(bench, before, controls))
    return failed and not bench.worse(median(own.values), bench.bar(median(before.values), bench.gate.worse_by))
