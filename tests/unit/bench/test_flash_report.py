"""The report of the flash bench: targets met or missed, states from power-on on, and nothing changed outside its marks."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from flash.journal import Journal
from flash.states import State
from tests.bench.flash_host import InPlace, Reimage
from tests.bench.flash_journal import Span, between, draw, read_spans, table, total_s
from tests.bench.flash_report import Case, DataPath, render, write_report
from tests.bench.report import BEGIN, END

pytestmark = pytest.mark.unit

SPANS = (Span(State.STAGING, 0.0, 60.0), Span(State.WRITING, 60.0, 30.0), Span(State.HEALTHY, 100.0, 20.0))
REIMAGE = Reimage("virtual_media", SPANS, 300_000_000)
IN_PLACE = InPlace(75.5, SPANS, 8_400_000, 1.5)


def data_path(agent_s: float) -> DataPath:
    seconds = {"link": 2.0, "decode": 1.0, "disk": 9.0, "zstd | dd": 9.5, "plain Python": 9.5, "agent": agent_s}
    # A run that is far off moves no median.
    cases = [Case(name, "true", "nothing", [(wall, 1.0), (wall, 1.0), (99.0, 9.0)]) for name, wall in seconds.items()]
    return DataPath("1 Gbit/s", tuple(cases), 9, 400_000_000, 380_000_000, has_verity=True)


@pytest.mark.parametrize(("agent_s", "verdict"), [(10.0, "0.90 of disk: met"), (10.2, "0.88 of disk: missed")])
def test_the_target_is_met_or_missed_against_the_slowest_part(agent_s: float, verdict: str) -> None:
    text = render((data_path(agent_s),), None)
    assert f"Over 1 Gbit/s it is {verdict}" in text
    assert "| zstd &#124; dd | 9.50 | 42 | 1.00 | 0.95 |" in text
    assert "not measured" in text


def test_a_flash_counts_from_power_on_and_not_from_its_plan(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "one.jsonl")
    at = {
        "PLANNED": 100.0,
        "PREFLIGHT": 108.0,
        "STAGING": 170.0,
        "WRITING": 200.0,
        "HEALTHY": 220.0,
        "COMMITTED": 221.0,
    }
    took = {"PLANNED": 0.0, "PREFLIGHT": 8.0, "STAGING": 60.0, "WRITING": 30.0, "HEALTHY": 20.0, "COMMITTED": 1.0}
    lines = [f'{{"at": {at[state]}, "state": "{state}", "evidence": {{"seconds": {took[state]}}}}}\n' for state in at]
    journal.path.write_text("".join(lines))
    spans = read_spans(journal)
    assert spans[1] == Span(State.PREFLIGHT, 0.0, 8.0)
    kept = between(spans, State.STAGING, State.HEALTHY)
    assert [span.state for span in kept] == [State.STAGING, State.WRITING, State.HEALTHY]
    assert (kept[0].start_s, total_s(kept)) == (0.0, 110.0)
    with pytest.raises(ValueError, match="SOAKING"):
        between(spans, State.STAGING, State.SOAKING)


def test_shares_are_of_the_whole_time_with_what_lies_between() -> None:
    assert "| STAGING | 0.0 | 60.0 | 50% |" in table(SPANS)
    ET.fromstring(draw(SPANS))


def test_a_report_changes_what_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "bench-flash.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = write_report(tmp_path, (data_path(10.0),), (REIMAGE, IN_PLACE))
    assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n{END}\nafter\n"
    assert "75.5 s. In it 8.4 MB were transferred, in 1.5 s" in text
    assert "120.0 s through the door `virtual_media`" in text
    ET.parse(tmp_path / "bench-flash.svg")


def test_the_page_has_its_marks() -> None:
    text = (Path(__file__).parents[3] / "docs/bench-flash.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
