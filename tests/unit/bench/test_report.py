"""The report says what was measured, what was not and why, and changes nothing outside its marks."""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bench.__main__ import order_cells
from tests.bench.cases import Case, Job
from tests.bench.measure import Run
from tests.bench.plot import Bar, draw_bars, length_of
from tests.bench.records import Records
from tests.bench.report import BEGIN, END, render, write_report

pytestmark = pytest.mark.unit
RUN = Run(wall_s=2.0, cpu_s=3.0, rss_mib=50.0, size_mib=200.0)


@dataclass
class Known:
    """A peer that was measured elsewhere."""

    name: str
    note: str = "does things"
    same_as: Mapping[Case, Case] = field(default_factory=dict)
    left_out: Mapping[Case, str] = field(default_factory=dict)
    is_emulated: bool = False
    absent: str | None = None

    def missing(self) -> str | None:
        return self.absent

    def version(self) -> str:
        return f"{self.name} 1"

    def prepare(self, case: Case, number: int) -> Job:
        raise AssertionError


def row(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_each_cell_says_its_time_or_why_there_is_none(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for wall_s in (2.0, 3.0, 4.0):
        records.add("qtrade", Case.LAST, dataclasses.replace(RUN, wall_s=wall_s), {})
    records.add("plain", Case.LAST, RUN, {})
    records.add("slow", Case.LAST, dataclasses.replace(RUN, failed="> 420 s"), {})
    peers = [
        Known("qtrade"),
        Known("plain", same_as={Case.LOW: Case.LAST}),
        Known("slow"),
        Known("none", absent="not there"),
    ]
    text = render(peers, records)
    assert row(text, "last layer changed") == ["3.00 (3.00)", "2.00 (3.00) ¹", "> 420 s", "not there"]
    assert row(text, "the lowest layer changed") == ["not run", "2.00 (3.00) ¹ ²", "not run", "not there"]


@pytest.mark.parametrize(
    ("wall_s", "words"), [(0.4, "0.40 s, target 0.50 s: met"), (0.6, "0.60 s, target 0.50 s: missed")]
)
def test_targets_are_reported_either_way(tmp_path: Path, wall_s: float, words: str) -> None:
    records = Records(tmp_path)
    records.add("qtrade", Case.NOTHING, dataclasses.replace(RUN, wall_s=wall_s), {})
    assert f"- nothing changed, the whole process: {words}" in render([Known("qtrade")], records)


def test_a_case_that_is_left_out_says_why(tmp_path: Path) -> None:
    text = render([Known("slow", left_out={Case.COLD: "would take a day"})], Records(tmp_path))
    assert row(text, "cold") == ["would take a day"]


def test_tools_take_turns_and_the_emulated_one_is_last() -> None:
    slow = Known("slow", is_emulated=True, same_as={Case.DEBS: Case.COLD})
    quick = Known("quick", left_out={Case.COLD: "no"})
    other = Known("other")
    cells = order_cells([slow, quick, other], [Case.COLD, Case.DEBS], 2)
    assert [(peer.name, case, runs) for peer, case, runs in cells] == [
        ("other", Case.COLD, 1),
        ("quick", Case.DEBS, 1),
        ("other", Case.DEBS, 1),
        ("other", Case.COLD, 2),
        ("quick", Case.DEBS, 2),
        ("other", Case.DEBS, 2),
        ("slow", Case.COLD, 1),
        ("slow", Case.COLD, 2),
    ]


def test_the_cold_target_is_the_time_of_packer(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add("qtrade", Case.DEBS, dataclasses.replace(RUN, wall_s=80.0), {})
    assert "at most the time of packer-chroot: not measured" in render([Known("qtrade")], records)
    records.add("packer-chroot", Case.DEBS, dataclasses.replace(RUN, wall_s=70.0), {})
    assert "80.00 s, target 70.00 s: missed" in render([Known("qtrade")], records)


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "bench.md").write_text(f"before\n{BEGIN}\nof last time\n{END}\nafter\n")
    records = Records(tmp_path / "runs")
    records.add("qtrade", Case.NOTHING, RUN, {"cores": "2", "commit": "abc"})
    write_report(docs, [Known("qtrade")], records)
    first = (docs / "bench.md").read_text()
    assert first.startswith(f"before\n{BEGIN}\n")
    assert first.endswith(f"{END}\nafter\n")
    assert "of last time" not in first
    write_report(docs, [Known("qtrade")], records)
    assert (docs / "bench.md").read_text() == first
    assert "2.00 s" in (docs / "bench.svg").read_text()


def test_a_report_without_a_folder_writes_nothing(tmp_path: Path) -> None:
    write_report(None, [Known("qtrade")], Records(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_pages_marks_are_there() -> None:
    page = Path("docs/bench.md").read_text()
    assert page.count(BEGIN) == 1
    assert page.index(BEGIN) < page.index(END)


def test_bars_grow_with_the_logarithm() -> None:
    assert length_of(0.1, 100) == 0
    assert length_of(0.01, 100) == 0
    assert length_of(100, 100) == pytest.approx(3 * length_of(1, 100), abs=0.2)


def test_the_plot_is_valid_and_shows_reasons() -> None:
    text = draw_bars([Bar("cold", "qtrade", 12.5), Bar("cold", "mkosi", None, "> 600 s"), Bar("warm", "qtrade", 0.2)])
    words = [element.text for element in ET.fromstring(text).iter() if element.tag.endswith("text")]
    assert words.count("cold") == 1
    assert {"12.50 s", "> 600 s", "0.20 s", "100 s"} <= set(words)
