"""Hard gates: limits as Argo Rollouts has them, and what is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.judge.hard import judge_hard
from flash.judge.record import Sample, Verdict
from flash.judge.series import Series
from qtrade.manifest.gates import Gates, HardGate
from qtrade.manifest.metrics import Metric

pytestmark = pytest.mark.unit
LAG, GEYSER = Metric.SLOT_LAG, Metric.GEYSER_SLOT
START, EVERY = 1000.0, 10.0


def say(looks: str, metric: Metric = LAG, *, until: float | None = None, **limits: float) -> Verdict:
    """Judge looks ten seconds apart: `+` good, `-` out of bounds, `.` no value, ` ` nobody looked."""
    values = {"+": 1.0, "-": 9.0, ".": None}
    samples = [
        Sample("h", metric, START + EVERY * (i + 1), values[look], "silent" if look == "." else "")
        for i, look in enumerate(looks)
        if look != " "
    ]
    gate = HardGate(**{"at_most": 5, "minimum_samples": 3, "consecutive_success_limit": 2} | limits)
    gates = Gates(interval_s=EVERY, hard={LAG: gate, GEYSER: gate})
    end = START + EVERY * len(looks) if until is None else until
    return judge_hard(gates, metric, Series(samples), "h", START, end).verdict


P, F, I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("looks", "limits", "verdict"),
    [
        ("+++++", {}, P), ("++-++", {}, F), ("++-++", {"failure_limit": 1}, P), ("+-+-+++", {"failure_limit": 1}, F),
        # Failures need not follow each other, and the failure limit wins over success and over silence.
        ("-++++++++", {"failure_limit": 0}, F), ("-........", {"failure_limit": 0}, F),
        # Neither failed nor satisfied.
        ("+++-+", {"failure_limit": 1}, I), ("+++-++", {"failure_limit": 1}, P), ("++", {}, I), ("", {}, I),
        ("+++-", {"failure_limit": 1, "consecutive_success_limit": 0}, P),
        # Missing data never fail, and pass only where few.
        ("+++..++", {"consecutive_error_limit": 2}, P), ("+++...", {"consecutive_error_limit": 2}, I),
        ("+++...+", {"consecutive_error_limit": 2}, I), ("+++...++", {"consecutive_error_limit": 2}, P),
        (".........", {}, I), ("+.+.+.+++", {"consecutive_error_limit": 0}, P), ("++++.", {"consecutive_error_limit": 0}, I),
        # Where nobody looked, nothing is known either.
        ("+++    ", {"consecutive_error_limit": 2}, I), ("+++   +", {"consecutive_error_limit": 2}, I),
        ("+++  ++", {"consecutive_error_limit": 2}, P),
        ("     +++", {"consecutive_error_limit": 4, "consecutive_success_limit": 4}, I),
        ("+. . ++++", {"consecutive_error_limit": 2, "consecutive_success_limit": 5}, I),
    ],
)  # fmt: skip
def test_limits(looks, limits, verdict) -> None:
    assert say(looks, **limits) is verdict


def test_what_was_before_the_start_and_after_the_end_does_not_count() -> None:
    assert say("+++++---", until=START + 5 * EVERY) is P
    samples = [Sample("h", LAG, START - 1, 99.0), *(Sample("h", LAG, START + EVERY * i, 1.0) for i in range(1, 6))]
    found = judge_hard(Gates(interval_s=EVERY), LAG, Series(samples), "h", START, START + 5 * EVERY)
    assert found.verdict is P


def grow(*values: float | None, apart: float = EVERY) -> Verdict:
    samples = [Sample("h", GEYSER, START + apart * (i + 1), value) for i, value in enumerate(values)]
    gate = HardGate(at_least=1, minimum_samples=3, consecutive_success_limit=2, failure_limit=0)
    gates = Gates(interval_s=EVERY, hard={GEYSER: gate})
    return judge_hard(gates, GEYSER, Series(samples), "h", START, START + apart * len(values)).verdict


def test_of_a_counter_its_growth_is_judged() -> None:
    assert grow(100, 104, 108, 112, 116) is P
    assert grow(100, 104, 104, 112, 116) is F
    # Three looks of growth need four of the counter.
    assert grow(100, 104, 108) is I
    # It began anew, and has grown since.
    assert grow(100, 104, 3, 7, 11) is P
    assert grow(100, None, 104, 108, 112) is P
    # Looks that follow each other at once have left it no time.
    assert grow(100, 100, 104, 104, 108, 108, 112, 112, apart=EVERY / 2 - 1) is P


@given(
    st.lists(st.sampled_from("+-. "), max_size=30).map("".join),
    st.integers(0, 29),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_a_look_that_gets_worse_never_turns_a_failure_into_a_pass(looks, place, failures, errors) -> None:
    limits = {"failure_limit": failures, "consecutive_error_limit": errors}
    before = say(looks, **limits)
    if place < len(looks) and looks[place] == "+":
        after = say(looks[:place] + "-" + looks[place + 1 :], **limits)
        assert not (before is F and after is not F)
        assert not (before is I and after is P)


@given(st.lists(st.sampled_from("+-. "), max_size=30).map("".join), st.integers(0, 29), st.sampled_from(". "))
def test_losing_a_good_look_never_makes_a_pass(looks, place, lost) -> None:
    limits = {"failure_limit": 1, "consecutive_error_limit": 2}
    if place < len(looks) and looks[place] == "+" and say(looks, **limits) is not P:
        assert say(looks[:place] + lost + looks[place + 1 :], **limits) is not P
