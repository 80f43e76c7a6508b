"""How often the judge is wrong on generated soaks: false alarms (FAIL on a good one) and misses (PASS on a bad one)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from flash.judge.decide import judge
from flash.judge.record import Verdict
from qtrade.manifest.gates import Gates
from qtrade.manifest.metrics import Metric
from tests.fakes.soaks import DEPLOYED, HEALTHY, Soak, on
from tests.unit.judge.scenarios import CONTROLS, C

_GATES = Gates(without=dict.fromkeys(Gates().hard, "bounds have no chance in them"))
_SOFT = tuple(metric for metric in HEALTHY if metric in _GATES.soft)
BASE = Soak(metrics=_SOFT, gates=_GATES)
_RPC = Metric.RPC_P99_MS


@dataclass(frozen=True)
class Case:
    """Many soaks of a kind, with different seeds; whether the version is good.

    `times` as many are done as of others. With `every_s` it is judged again and again, and fails as soon as one judgement does.
    """

    what: str
    is_good: bool
    soak: Soak
    times: int = 1
    every_s: float = 0


def _rpc(what: Callable[[float, float], float]) -> Soak:
    return BASE.changed(on(C, _RPC, what))


_SLOWER = BASE.changed(on((C, *CONTROLS), _RPC, lambda t, v: v * (1 + max(t, 0) / 1200)))
CASES: tuple[Case, ...] = (
    Case("nothing is wrong", True, BASE, times=10),
    Case("nothing is wrong, judged every minute of the soak", True, BASE, every_s=60),
    Case("nothing is wrong, ten minutes only", True, replace(BASE, soak_s=600)),
    Case("nothing is wrong, two controls", True, replace(BASE, controls=CONTROLS[:2])),
    Case("nothing is wrong, values follow each other closely (correlation 0.6)", True, replace(BASE, correlation=0.6)),
    Case("nothing is wrong, values scatter twice as much", True, replace(BASE, noise=2)),
    Case("nothing is wrong, hosts differ by 8 %", True, replace(BASE, spread=0.08)),
    Case("nothing is wrong, hosts differ by 8 %, ten minutes recorded before", True, replace(BASE, spread=0.08, before_s=600)),
    Case("nothing is wrong, all hosts slow down to twice", True, _SLOWER),
    Case("RPC p99 +50 %", False, _rpc(lambda _, v: v * 1.5)),
    Case("RPC p99 +100 %", False, _rpc(lambda _, v: v * 2)),
    Case("RPC p99 four times as high in one look of seven", False, _rpc(lambda t, v: v * 4 if int(t / 15) % 7 == 0 else v)),
    Case("RPC p99 +100 % from the middle on", False, _rpc(lambda t, v: v * 2 if t > 600 else v)),
    Case("RPC p99 +100 % in the last quarter", False, _rpc(lambda t, v: v * 2 if t > 900 else v)),
    Case("CPU frequency -20 %", False, BASE.changed(on(C, Metric.CPU_MHZ, lambda _, v: v * 0.8))),
)  # fmt: skip


def measure(case: Case, soaks: int, *, first: int = 0) -> Counter[Verdict]:
    """Return how often each verdict was given."""
    return Counter(_judge(replace(case.soak, seed=first + seed), case.every_s) for seed in range(soaks))


def _judge(soak: Soak, every_s: float) -> Verdict:
    samples, moments = soak.samples(), int(soak.soak_s // every_s) if every_s else 0
    for moment in range(1, moments):
        told = judge(soak.gates, samples, soak.canaries, soak.controls, DEPLOYED, DEPLOYED + moment * every_s)
        if told.verdict is Verdict.FAIL:
            return Verdict.FAIL
    return soak.judge(samples).verdict
