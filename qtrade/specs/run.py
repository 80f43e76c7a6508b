"""Build the pytest command of the roles' specs, and read its report."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from qtrade.errors import ToolError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# pytest's own exit code for a run in which some tests failed; other non-zero codes mean that it did not run properly.
TESTS_FAILED = 1


class Mark(StrEnum):
    """Where a spec holds."""

    LAYER = "layer"
    IMAGE = "image"
    BOOTED = "booted"
    HOST = "host"


@dataclass(frozen=True)
class SpecResult:
    """How many specs ran, and the ones that failed and that were skipped, as `(role, test, message)`."""

    ran: int
    failures: tuple[tuple[str, str, str], ...]
    skipped: tuple[tuple[str, str, str], ...] = ()


def spec_command(
    ansible: Path, roles: Iterable[str], marks: Iterable[Mark], target: Iterable[str], report: Path
) -> tuple[str, ...]:
    """Return the command that runs the specs of the `roles` in `ansible` against a testinfra `target` and writes a JUnit `report`."""
    folders = [ansible / "roles" / role / "specs" for role in roles]
    present = [str(folder) for folder in folders if folder.is_dir()]
    return (
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "--disable-plugin-autoload",  # others take as long to load as all the rest, and specs must not depend on them
        "-p",
        "testinfra.plugin",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        f"--rootdir={ansible.parent}",
        f"--confcutdir={ansible}",
        "-c",
        str(ansible / "specs.ini"),
        "-m",
        " or ".join(marks),
        f"--junitxml={report}",
        *target,
        *present,
    )


def read_report(report: Path) -> SpecResult:
    """Read a JUnit report. Raises `ToolError` when there is none or no spec ran: silence is no proof."""
    import xml.etree.ElementTree as ET  # noqa: PLC0415 - most bakes run no spec

    try:
        suite = ET.parse(report).getroot()  # noqa: S314 - written by our own pytest
    except (FileNotFoundError, ET.ParseError) as error:
        raise ToolError("the specs wrote no report", details=str(error)) from error
    cases = list(suite.iter("testcase"))
    skipped = _find(cases, "skipped")
    if len(skipped) == len(cases):
        raise ToolError("no spec ran", details=str(report))
    return SpecResult(len(cases) - len(skipped), _find(cases, "failure", "error"), skipped)


def _find(cases: "list[Element]", *outcomes: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (_role_of(case), case.get("name", ""), (problem.get("message") or problem.text or "").strip()[:2000])
        for case in cases
        for outcome in outcomes
        for problem in case.findall(outcome)
    )


def _role_of(case: "Element") -> str:
    name = case.get("classname", "")
    return name.split(".roles.", 1)[-1].split(".", 1)[0]
