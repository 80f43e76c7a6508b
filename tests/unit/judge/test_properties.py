"""What holds of the judge for any record."""

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flash.judge.decide import judge
from flash.judge.record import Sample, Verdict
from qtrade.manifest.gates import Gates, SoftGate
from qtrade.manifest.metrics import Metric
from tests.fakes.soaks import DEPLOYED, Soak, on
from tests.unit.judge.rates import BASE

pytestmark = pytest.mark.unit
C, RPC, MHZ, LAG = "canary-1", Metric.RPC_P99_MS, Metric.CPU_MHZ, Metric.SLOT_LAG
GAUGES = replace(
    BASE, soak_s=600, metrics=(RPC, MHZ, LAG),
    gates=Gates(without=dict.fromkeys(set(Gates().hard) - {LAG} | {Metric.SLOT, Metric.PACKET_DROPS}, "only gauges are looked at")),
)  # fmt: skip
QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SOAKS = st.builds(
    lambda seed, factor, noise: replace(GAUGES, seed=seed, noise=noise).changed(on(C, RPC, lambda _, v: v * factor)),
    st.integers(0, 10**6), st.sampled_from((1.0, 1.2, 1.3, 1.4, 1.6, 2.5)), st.sampled_from((0.3, 1.0, 3.0)),
)  # fmt: skip


@QUICK
@given(SOAKS, st.randoms(use_true_random=False))
def test_order_and_repetition_of_samples_change_nothing(soak: Soak, chance: random.Random) -> None:
    samples = soak.samples()
    mixed = [*samples, *chance.sample(samples, len(samples) // 2)]
    chance.shuffle(mixed)
    assert soak.judge(mixed) == soak.judge(samples)


@QUICK
@given(SOAKS, st.integers(0, 10**6), st.floats(1.0, 5.0))
def test_a_canary_that_gets_worse_never_turns_a_failure_into_a_pass(soak: Soak, seed: int, factor: float) -> None:
    chance = random.Random(seed)
    samples = soak.samples()

    def worsen(one: Sample) -> Sample:
        if one.host != C or one.value is None or chance.random() < 0.5:
            return one
        return replace(one, value=one.value / factor if one.metric == MHZ else one.value * factor)

    before, after = soak.judge(samples), soak.judge([worsen(one) for one in samples])
    for one in before.findings:
        if one.verdict is Verdict.FAIL:
            then = next(other for other in after.findings if (other.gate, other.host) == (one.gate, one.host))
            assert then.verdict is not Verdict.PASS
    assert not (before.verdict is Verdict.FAIL and after.verdict is Verdict.PASS)


@QUICK
@given(SOAKS, st.sampled_from((RPC, MHZ, LAG)), st.sampled_from(("no line", "no value")))
def test_a_metric_of_the_canary_that_is_not_there_never_passes(soak: Soak, metric: Metric, lost: str) -> None:
    kept = [one for one in soak.samples() if (one.host, one.metric) != (C, metric)]
    silent = [replace(one, value=None) for one in soak.samples() if (one.host, one.metric) == (C, metric)]
    found = soak.judge([*kept, *silent] if lost == "no value" else kept)
    assert found.verdict is not Verdict.PASS
    assert next(one for one in found.findings if one.gate == metric).verdict is Verdict.INCONCLUSIVE


@QUICK
@given(SOAKS)
def test_controls_that_are_not_there_never_pass_and_never_fail_a_soft_gate(soak: Soak) -> None:
    found = soak.judge([one for one in soak.samples() if one.host == C])
    assert {one.verdict for one in found.findings if one.kind == "soft"} == {Verdict.INCONCLUSIVE}


@QUICK
@given(SOAKS, st.integers(0, 10**6))
def test_a_record_that_ends_early_never_passes_a_gate_that_has_failed_by_then(soak: Soak, seed: int) -> None:
    """A judgement at a moment knows what was recorded until then, and nothing of what comes later."""
    until = DEPLOYED + random.Random(seed).uniform(60, 600)
    samples = soak.samples()
    told = judge(soak.gates, samples, soak.canaries, soak.controls, DEPLOYED, until)
    assert told == judge(
        soak.gates, [one for one in samples if one.at <= until], soak.canaries, soak.controls, DEPLOYED, until
    )


@QUICK
@given(SOAKS, st.floats(0.01, 100))
def test_the_unit_of_a_metric_changes_nothing(soak: Soak, factor: float) -> None:
    bare = soak.gates.model_copy(update={"soft": {RPC: SoftGate(worse_by=0.25)}})
    soak = replace(soak, gates=bare)
    scaled = [
        replace(one, value=one.value * factor) if one.metric == RPC and one.value else one for one in soak.samples()
    ]
    found = [
        next(one.verdict for one in soak.judge(given).findings if one.gate == RPC) for given in (soak.samples(), scaled)
    ]
    assert found[0] is found[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(
    Sample, st.sampled_from(("a", "b", "c")), st.sampled_from(("slot_lag", "rpc_p99_ms", "geyser_slot", "no such metric")),
    st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=2000), st.none() | st.floats(), st.text(max_size=5),
), max_size=40))  # fmt: skip
def test_no_record_whatsoever_breaks_the_judge(samples: list[Sample]) -> None:
    found = judge(Gates(), samples, ("a", "b"), ("b", "c"), {"a": 100.0}, 2000.0)
    assert found.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)
    assert found == judge(Gates(), list(reversed(samples)), ("b", "a"), ("c",), {"a": 100.0}, 2000.0)
    assert all(one.host for one in found.findings)
