"""The baked layers of one role of the lab, and cases (files of tests) that pytest runs inside the chamber that stacks them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bake.chamber import Chamber, Command, run_in_chamber
from bake.plan import base_key, key_of, kind_of, step_fields
from bake.run import gather, load_recipe
from qtrade.errors import ToolError
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings
from qtrade.store.open import open_store
from tests.fakes.reporter import RecordingReporter

_QTRADE = Path(sys.executable).parent / "qtrade"


def bake_role(settings: Settings, role: str) -> tuple[Path, ...]:
    """Return the blobs of the lab's layer of `role` and of all that it stands on, lowest first; made where they are not."""
    subprocess.run([_QTRADE, "bake", "--only", role], check=True, timeout=1800)
    recipe, store = load_recipe(settings, "lab"), open_store(settings)
    inputs, _, _ = gather(settings, store, recipe, RecordingReporter())
    base = store.find_record(base_key(recipe, inputs))
    assert base is not None
    keys = {name: key_of(kind_of(name), fields) for name, fields in step_fields(recipe, inputs, base).items()}
    digests = [base.digest]
    for name in (*recipe.ancestors(role), role):
        if name != BASE:
            record = store.find_record(keys[name])
            assert record is not None, name
            digests.append(record.digest)
    return tuple(store.open_blob(digest) for digest in digests)


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
