"""What is recorded while a release soaks, and what a judge says of it.

A rollout writes samples, a judge reads them: he asks no host and no clock, so that a verdict can be had again from the record.
"""

from dataclasses import dataclass
from enum import StrEnum

from qtrade.manifest.gates import GateKind


class Verdict(StrEnum):
    """What a gate, or all of them, say. `INCONCLUSIVE` pauses a rollout: data are missing or contradict each other."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


# For sorting: what decides a judgement comes first.
WORST_FIRST = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@dataclass(frozen=True)
class Sample:
    """One observation of a host: `value` of `metric` at `at` (Unix seconds of the controller's clock).

    `value` is None where the host gave none; `detail` says why, or what stands behind the figure (the names of failed units).
    """

    host: str
    metric: str
    at: float
    value: float | None
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """What one gate says of one host, with the sample that decided; `why` is a sentence for people."""

    gate: str
    host: str
    verdict: Verdict
    why: str
    sample: Sample | None = None
    kind: GateKind = GateKind.HARD


@dataclass(frozen=True)
class Judgement:
    """What all gates say together: FAIL where one fails, else INCONCLUSIVE where one is, else PASS."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
