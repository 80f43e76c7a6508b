"""One canary against control hosts: how its values lie to theirs, in all, lately, and far out. docs/judge.md has the formulae.

Each comparison asks whether the canary is worse than a *bar*: the controls' values, made worse by what the gate tolerates.

* FAIL: the canary is beyond the bar, and that is no chance (effect and significance both);
* PASS: it is on the good side of the bar, and that is no chance either: a test of non-inferiority. "No difference was found" is no proof;
* INCONCLUSIVE: the values do not say. Few samples, much noise and few controls all end here.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from flash.judge.ranks import fisher_larger, mann_whitney, quantile, variance_inflation
from flash.judge.record import Verdict
from flash.judge.series import Point
from qtrade.manifest.gates import SoftGate
from qtrade.manifest.metrics import MetricFacts

COMPARISONS = 3
_TAIL = 0.95
# The part of the soak that counts as its end: what changes late is drowned in the whole.
_RECENT = 3
# Hosts are compared within strata of time of about so many looks: what moves all of them is no regression.
_STRATUM = 12
# Of ten controls one may be sick by itself; of fewer, none.
_ODD_CONTROLS = 10


@dataclass(frozen=True)
class Host:
    """A host's values in order of time, and the points that they are of."""

    name: str
    values: tuple[float, ...]
    points: tuple[Point, ...]

    def between(self, start: float, end: float) -> "Host":
        """Return the same from `start` on and before `end`."""
        first, end_of = (bisect_left(self.points, moment, key=_moment) for moment in (start, end))
        return Host(self.name, self.values[first:end_of], self.points[first:end_of])


def _moment(point: Point) -> float:
    return point.at


@dataclass(frozen=True)
class Comparison:
    """What one comparison says, with the point that shows it best."""

    verdict: Verdict
    why: str
    point: Point


@dataclass(frozen=True)
class Bench:
    """What a comparison stands on: gate and metric, the chance of a false alarm allowed to it, and of a false pass."""

    gate: SoftGate
    facts: MetricFacts
    alarm: float
    slip: float

    def worse(self, value: float, other: float) -> bool:
        """Whether a value is worse than another."""
        return value < other if self.facts.more_is_better else value > other

    def bar(self, value: float, by: float) -> float:
        """Return a control's value made worse by the share `by` and the slack. One that has turned negative would ask for nothing."""
        if self.facts.more_is_better:
            return max(0.0, value * (1 - min(by, 1.0)) - self.gate.slack)
        return value * (1 + by) + self.gate.slack

    def strictest(self, bars: Sequence[float]) -> float:
        """Return the bar that asks for most."""
        return max(bars) if self.facts.more_is_better else min(bars)

    def worst_of(self, values: Sequence[float]) -> float:
        """Return the worst of some values."""
        return min(values) if self.facts.more_is_better else max(values)

    def worst(self, host: Host) -> Point:
        """Return the point with the worst value, the earliest of equals."""
        return host.points[host.values.index(self.worst_of(host.values))]


def compare(bench: Bench, canary: Host, controls: Sequence[Host]) -> list[Comparison]:
    """Return the comparisons of a canary: all of its soak, its tail, and the last third of its soak where that is long enough."""
    said = [compare_level(bench, canary, controls), compare_tail(bench, canary, controls)]
    count = len(canary.values) // _RECENT
    if count >= bench.gate.minimum_samples // 2:
        since = canary.points[-count].at
        late = [control.between(since, math.inf) for control in controls]
        said.append(compare_level(bench, canary.between(since, math.inf), late, lately=True))
    return said


def compare_level(bench: Bench, canary: Host, controls: Sequence[Host], *, lately: bool = False) -> Comparison:
    """Compare where the values lie: Mann-Whitney of the canary's against the bar, within strata of time.

    `lately` looks for what changed at the end: it passes without proof, for that is what the whole is asked for.
    """
    parts = _strata(canary, controls)
    point = bench.worst(canary)
    if any(part.values and not any(one.values for one in others) for part, others in parts):
        return Comparison(Verdict.INCONCLUSIVE, "no control answered for a part of the time", point)
    controls = [one for one in controls if one.values]
    strata = [
        (part.values, [bench.bar(value, bench.gate.worse_by) for one in others for value in one.values])
        for part, others in parts
    ]
    shift = mann_whitney(strata, inflation=_inflation(parts))
    p_worse, p_better, beyond = shift.p_larger, shift.p_smaller, shift.superiority > 0.5
    if bench.facts.more_is_better:
        p_worse, p_better, beyond = p_better, p_worse, shift.superiority < 0.5
    own, theirs = median(canary.values), median(value for control in controls for value in control.values)
    told = f"{'lately ' if lately else ''}{_say(own, bench.facts)} against {_say(theirs, bench.facts)} of the controls{_share(own, theirs)}"
    if p_worse < bench.alarm:
        # Hosts differ by themselves: the canary has to be beyond what any of them is, made worse by the same.
        as_bad = [
            one.name for one in controls if not bench.worse(own, bench.bar(median(one.values), bench.gate.worse_by))
        ]
        if len(as_bad) > len(controls) // _ODD_CONTROLS:
            return Comparison(
                Verdict.INCONCLUSIVE, f"{told}; but {as_bad[0]}, on the old version, is not much better", point
            )
        return Comparison(Verdict.FAIL, f"{told}, {_tolerated(bench)}, p {p_worse:.1g}", point)
    ever = any(bench.worse(bench.worst_of(mine), bench.strictest(bars)) for mine, bars in strata if mine)
    if not ever or p_better < bench.slip or (lately and not beyond):
        return Comparison(Verdict.PASS, told, point)
    return Comparison(Verdict.INCONCLUSIVE, f"{told}: the values do not say whether that is {_tolerated(bench)}", point)


def compare_tail(bench: Bench, canary: Host, controls: Sequence[Host]) -> Comparison:
    """Compare how often values are far out: Fisher's test of looks beyond the controls' 95th percentile, made worse by `tail_worse_by`."""
    pooled = [value for control in controls for value in control.values]
    edge = quantile([-value for value in pooled], _TAIL) * -1 if bench.facts.more_is_better else quantile(pooled, _TAIL)
    bar = bench.bar(edge, bench.gate.tail_worse_by)
    hits, theirs = _beyond(bench, canary, bar), [_beyond(bench, control, bar) for control in controls]
    share = hits / len(canary.values)
    told = (
        f"{hits} of {len(canary.values)} looks beyond {_say(bar, bench.facts)}, controls {sum(theirs)} of {len(pooled)}"
    )
    point = bench.worst(canary)
    if share <= bench.gate.tail_share:
        return Comparison(Verdict.PASS, told, point)
    # Bad looks that come in a row are fewer events than looks.
    thin = variance_inflation([canary.values])
    p_more = fisher_larger(int(hits / thin), max(1, round(len(canary.values) / thin)), sum(theirs), len(pooled))
    as_bad = [one.name for one, beyond in zip(controls, theirs, strict=True) if beyond / len(one.values) >= share]
    if p_more < bench.alarm and len(as_bad) <= len(controls) // _ODD_CONTROLS:
        return Comparison(
            Verdict.FAIL, f"{told}, {bench.gate.tail_share:.0%} of looks are tolerated, p {p_more:.1g}", point
        )
    return Comparison(
        Verdict.INCONCLUSIVE, f"{told}: {f'so is {as_bad[0]}' if as_bad else 'too few to be sure'}", point
    )


def _strata(canary: Host, controls: Sequence[Host]) -> list[tuple[Host, list[Host]]]:
    count = max(1, len(canary.values) // _STRATUM)
    start, end = canary.points[0].at, canary.points[-1].at
    edges = [-math.inf, *(start + (end - start) * place / count for place in range(1, count)), math.inf]
    return [(canary.between(a, b), [control.between(a, b) for control in controls]) for a, b in pairwise(edges)]


def _inflation(parts: Sequence[tuple[Host, list[Host]]]) -> float:
    """Return how much the variance of U grows by what values share with those just before; told of all hosts together, as one is short."""
    return variance_inflation(one.values for part, others in parts for one in (part, *others))


def _beyond(bench: Bench, host: Host, bar: float) -> int:
    return sum(bench.worse(value, bar) for value in host.values)


def _say(value: float, facts: MetricFacts) -> str:
    unit = f"{facts.unit}/s" if facts.is_counter else facts.unit
    return f"{value:.4g} {unit}".rstrip()


def _share(own: float, theirs: float) -> str:
    return f" ({own / theirs - 1:+.0%})" if theirs else ""


def _tolerated(bench: Bench) -> str:
    slack = f" and {_say(bench.gate.slack, bench.facts)}" if bench.gate.slack else ""
    return f"more than {bench.gate.worse_by:.0%}{slack} worse"
