"""Cases (files of tests) that pytest runs inside the chamber that stacks the baked layers of one role of the lab."""

import shutil
import sys
from pathlib import Path

import pytest

from bake.chamber import Chamber, Command, run_in_chamber
from qtrade.errors import ToolError
from qtrade.settings import Settings


def run_case(settings: Settings, layers: tuple[Path, ...], case: Path, *, env: dict[str, str] | None = None) -> None:
    """Run a file of tests in a chamber of `layers`, whose root QTRADE_TEST_ROOT names; fails as it does, and when one is skipped."""
    work = settings.state_dir / "test-roles" / case.stem
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options = ("-q", "-x", "-p", "no:cacheprovider", "--import-mode=importlib", f"--rootdir={settings.project}")
    inner = (sys.executable, "-B", "-m", "pytest", *options, "-c", str(settings.project / "pyproject.toml"), str(case))
    chamber = Chamber(work, layers, (Command(inner),))
    lines: list[str] = []
    try:
        whole = {"QTRADE_TEST_ROOT": str(chamber.root), **(env or {})}
        run_in_chamber(chamber, env=whole, timeout_s=600, on_line=lines.append)
    except ToolError:
        pytest.fail("\n".join(lines[-80:]))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert any(" passed" in line for line in lines), lines
    assert not any(" skipped" in line for line in lines), lines
