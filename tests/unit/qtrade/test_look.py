"""Plans and tables: one line a row where there is room, and nothing lost where there is none."""

import pytest

from qtrade.look import Row, render_plan, render_table, say_seconds

pytestmark = pytest.mark.unit

ROWS = (Row("build", "layer agave", "role file changed: tasks/main.yml", 75.4), Row("hit", "base", "hit"))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0 s"),
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, said) -> None:
    assert say_seconds(seconds) == said


def test_a_plan_is_aligned_in_a_pipe() -> None:
    assert render_plan("bake demo", ROWS, facts=[("writes", "a"), ("never touches", "b")]).splitlines() == [
        "bake demo",
        "  writes:        a",
        "  never touches: b",
        "  build  layer agave  role file changed: tasks/main.yml  about 1 min 15 s",
        "  hit    base         hit",
    ]


def test_a_plan_is_stacked_where_a_line_has_no_room() -> None:
    assert render_plan("bake demo with a rather long title", ROWS, width=30).splitlines() == [
        "bake demo with a rather long",
        "  title",
        "  build layer agave",
        "      role file changed:",
        "      tasks/main.yml",
        "      about 1 min 15 s",
        "  hit base",
        "      hit",
    ]


def test_a_table_becomes_blocks_where_a_line_has_no_room() -> None:
    head, rows = ("recipe", "version", "id"), [("lab", "0.1.0", "abc" * 8), ("lab", "0.2.0", "-")]
    assert render_table(head, rows).splitlines() == [
        "recipe  version  id",
        "lab     0.1.0    abcabcabcabcabcabcabcabc",
        "lab     0.2.0    -",
    ]
    assert render_table(head, rows, width=32).splitlines() == [
        "lab", "  version: 0.1.0", "  id: abcabcabcabcabcabcabcabc", "lab", "  version: 0.2.0", "  id: -",
    ]  # fmt: skip


def test_a_column_that_nobody_fills_takes_no_room() -> None:
    assert render_plan("x", [Row("a", "b", "")]) == "x\n  a  b"
