"""Some hundred generated soaks: how often the judge is wrong. tests/bench/judge.py does thousands."""

import json

import pytest

from flash.judge.record import Verdict
from tests.unit.judge.page import RATES
from tests.unit.judge.rates import CASES, Case, measure

pytestmark = pytest.mark.unit
SOAKS = 15


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.what)
def test_few_good_versions_fail_and_no_bad_one_passes(case: Case) -> None:
    counts = measure(case, SOAKS, first=10**6)
    if case.is_good:
        assert counts[Verdict.FAIL] <= 1
    else:
        assert counts[Verdict.PASS] == 0
        assert counts[Verdict.FAIL] > 0


def test_the_rates_that_are_shown_are_those_of_the_cases() -> None:
    rows = json.loads(RATES.read_text())
    assert [(row["what"], row["is_good"]) for row in rows] == [(case.what, case.is_good) for case in CASES], (
        "python -m tests.bench.judge"
    )
    assert all(sum(row["verdicts"].values()) == row["soaks"] for row in rows)
