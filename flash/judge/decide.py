"""The judge: a pure function from recorded samples to a judgement. It asks no host, no clock and no chance, so a record gives it again."""

import math
from collections.abc import Iterable, Mapping, Sequence

from flash.judge.hard import judge_hard
from flash.judge.record import WORST_FIRST, Finding, Judgement, Sample, Verdict
from flash.judge.series import Series
from flash.judge.soft import Question, judge_soft
from qtrade.manifest.gates import GateKind, Gates

# By host, where hosts got the new version one after another; one moment for all else. Unix seconds.
Deployed = float | Mapping[str, float]


def judge(
    gates: Gates,
    samples: Iterable[Sample],
    canaries: Sequence[str],
    controls: Sequence[str],
    deployed_at: Deployed,
    until: float,
) -> Judgement:
    """Return what all gates say of the canaries, hosts with the new version, at the moment `until`.

    Each canary answers to each hard gate by itself, and to each soft gate against the controls, hosts with the old version. Samples
    from the warm-up, later than `until`, or of other hosts do not count; their order and repetitions change nothing. What is missing
    never passes. With `minimum_controls: 0` soft gates do not count where no control is named.

    Narrow the gates to those of the image's roles first (`Gates.for_roles`).
    """
    hosts = tuple(sorted(set(canaries)))
    if not hosts:
        nobody = Finding("canaries", "", Verdict.INCONCLUSIVE, "no host has the new version: there is nothing to judge")
        return Judgement(Verdict.INCONCLUSIVE, (nobody,))
    others = tuple(sorted(set(controls) - set(hosts)))
    soft = gates.active(GateKind.SOFT) if others or gates.minimum_controls else ()
    hard = gates.active(GateKind.HARD)
    if not soft and not hard:
        none = Finding("gates", "", Verdict.INCONCLUSIVE, "no gate counts: nothing would be judged")
        return Judgement(Verdict.INCONCLUSIVE, (none,))
    series = Series(samples, dict.fromkeys(others, frozenset(soft)) | dict.fromkeys(hosts, frozenset((*hard, *soft))))
    findings: list[Finding] = []
    for host in hosts:
        moment = _moment(deployed_at, host)
        if moment is None:
            why = "nobody noted when it got the new version"
            findings.append(Finding("deployed", host, Verdict.INCONCLUSIVE, why))
            continue
        start = moment + gates.warm_up_s
        findings += [judge_hard(gates, metric, series, host, start, until) for metric in hard]
        asked = (Question(gates, metric, series, host, moment, until, len(soft) * len(hosts)) for metric in soft)
        findings += [judge_soft(question, others) for question in asked]
    findings.sort(key=lambda one: (WORST_FIRST[one.verdict], one.kind, one.gate, one.host))
    return Judgement(findings[0].verdict, tuple(findings))


def _moment(deployed_at: Deployed, host: str) -> float | None:
    moment = deployed_at.get(host) if isinstance(deployed_at, Mapping) else deployed_at
    return moment if moment is not None and math.isfinite(moment) else None
