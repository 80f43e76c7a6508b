"""Whatever somebody gets wrong has an answer: class, file and line, field, value, cure; and nothing is half-written."""

import json

import pytest

from tests.unit.bad_inputs.case import Case
from tests.unit.bad_inputs.cases import CASES, GROUPS
from tests.unit.bad_inputs.page import PAGE, render_page
from tests.unit.bad_inputs.run import Seen, run_case

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def seen() -> dict[str, Seen]:
    return {case.name: run_case(case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input_has_an_answer(seen, case: Case) -> None:
    found = seen[case.name]
    assert found.code == case.code, found.err
    assert "Traceback" not in found.err
    assert "\x1b" not in found.err + found.out
    assert "hunter2" not in found.err + found.out
    if found.out == "":
        assert found.err.startswith("error: "), found.err
        assert found.cure, found.err
    whole = found.out + found.err
    assert [word for word in case.says if word not in whole] == [], whole
    assert found.changed == ()


@pytest.mark.parametrize("title", GROUPS)
def test_machines_are_told_the_same_in_one_object(seen, title) -> None:
    case = GROUPS[title][0]
    (line,) = run_case(case, QTRADE_LOG="json").err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], told["exit_code"]) == ("error", "error", case.code)
    assert f"error: {told['brief']}" in seen[case.name].err
    assert told["resolution"] == seen[case.name].cure


def test_the_page_shows_what_is_seen_now(seen) -> None:
    assert PAGE.read_text() == render_page(seen), "run `make docs-tables`"
