"""Runs are kept, counted and summed up."""

import dataclasses
from pathlib import Path

import pytest

from tests.bench.cases import Case
from tests.bench.measure import Run
from tests.bench.records import SLOW_S, Records

pytestmark = pytest.mark.unit
QUICK = Run(wall_s=2.0, cpu_s=3.0, rss_mib=50.0, size_mib=200.0)


def test_a_cell_is_the_median_of_the_runs_that_succeeded(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for wall_s in (9.0, 1.0, 2.0):
        records.add("qtrade", Case.LAST, dataclasses.replace(QUICK, wall_s=wall_s), {})
    records.add("qtrade", Case.LAST, dataclasses.replace(QUICK, wall_s=0.1, failed="ended with code 1"), {})
    cell = records.cell("qtrade", Case.LAST)
    assert cell is not None
    assert (cell.wall_s, cell.runs, cell.failed) == (2.0, 3, "")


def test_what_failed_is_a_cell_with_its_reason(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add("mkosi", Case.COLD, dataclasses.replace(QUICK, failed="> 600 s"), {})
    cell = records.cell("mkosi", Case.COLD)
    assert cell is not None
    assert cell.failed == "> 600 s"
    assert records.cell("mkosi", Case.LAST) is None


@pytest.mark.parametrize(
    ("run", "done"),
    [
        (QUICK, False),
        (dataclasses.replace(QUICK, wall_s=SLOW_S + 1), True),
        (dataclasses.replace(QUICK, failed="ended with code 2"), True),
    ],
)
def test_only_a_quick_case_is_run_again(tmp_path: Path, run: Run, *, done: bool) -> None:
    records = Records(tmp_path)
    assert not records.is_done("qtrade", Case.LAST, 3)
    records.add("qtrade", Case.LAST, run, {})
    assert records.is_done("qtrade", Case.LAST, 3) is done


def test_a_slow_case_that_a_target_compares_is_run_as_often_as_asked(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for _ in range(3):
        assert not records.is_done("packer-chroot", Case.DEBS, 3)
        records.add("packer-chroot", Case.DEBS, dataclasses.replace(QUICK, wall_s=SLOW_S + 1), {})
    assert records.is_done("packer-chroot", Case.DEBS, 3)


def test_more_than_ten_runs_keep_their_order(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for number in range(12):
        records.add("qtrade", Case.NOTHING, dataclasses.replace(QUICK, wall_s=float(number)), {})
    assert [run.wall_s for run in records.runs("qtrade", Case.NOTHING)] == [float(number) for number in range(12)]
    assert Records(tmp_path).is_done("qtrade", Case.NOTHING, 12)


def test_loops_that_were_left_are_named(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add("qtrade", Case.NOTHING, QUICK, {})
    assert records.left_loops() == ()
    records.add("diskimage-builder", Case.LAST, dataclasses.replace(QUICK, loops=("loop3",)), {})
    assert records.left_loops() == ("diskimage-builder",)


def test_clear_forgets(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add("qtrade", Case.NOTHING, QUICK, {"cores": "2"})
    assert records.machines() == ({"cores": "2"},)
    records.clear()
    assert records.machines() == ()
