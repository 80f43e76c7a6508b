"""The judge on soaks with known answers, and the page that shows them."""

import pytest

from flash.judge.record import Verdict
from tests.unit.judge.page import PAGE, render_page
from tests.unit.judge.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.what)
def test_a_soak_with_a_known_answer(scenario: Scenario) -> None:
    found = scenario.judge()
    first = found.findings[0]
    assert found.verdict is scenario.expected, first.why
    if scenario.gate is not None:
        assert first.gate == scenario.gate
        assert first.host in scenario.soak.canaries
        assert len(first.why) > 10
        # A host that was never seen has no sample that decided.
        assert first.sample is not None or found.verdict is Verdict.INCONCLUSIVE


def test_every_verdict_is_expected_of_several_scenarios() -> None:
    for verdict in Verdict:
        assert sum(one.expected is verdict for one in SCENARIOS) > 10


def test_scenarios_have_names_of_their_own() -> None:
    assert len({one.what for one in SCENARIOS}) == len(SCENARIOS)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_page(), "run `make docs-tables`"
