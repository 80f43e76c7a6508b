"""The page of exit codes is the tree of errors."""

import pytest

from qtrade import errors
from qtrade.exit_codes import PAGE, render_page

pytestmark = pytest.mark.unit

CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.QtradeError)]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_page(), "run `make docs-tables`"


def test_the_page_has_a_row_for_each_class() -> None:
    rows = [line.split("|") for line in render_page().splitlines() if line.startswith("| ") and "`" in line]
    assert {(int(row[1]), row[2].strip(" `")) for row in rows} == {(one.exit_code, one.__name__) for one in CLASSES}


def test_every_class_knows_a_cure() -> None:
    assert len({one.usual_cure for one in CLASSES}) == len(CLASSES)
    assert errors.Refused("x").render() == f"error: x\nTo mend it: {errors.Refused.usual_cure}"


@pytest.mark.parametrize(
    ("word", "cure"),
    [
        ("raww", "did you mean raw? There are: raw, qcow2, netboot"),
        ("xyz", "use one of: raw, qcow2, netboot"),
    ],
)
def test_a_near_miss_is_named(word, cure) -> None:
    assert errors.choose_from(word, ["raw", "qcow2", "netboot"]) == cure
    assert errors.choose_from(word, [], "write it") == "write it"
