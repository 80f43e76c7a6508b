"""The role postgres with the real server of its own baked layer: cluster, schema and backups, in a chroot of the layers.

The cases are in `postgres/`; pytest runs them again inside the chamber that stacks the layers.
"""

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
from qtrade.settings import Settings, load_settings
from qtrade.store.open import open_store
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"
CASES = Path(__file__).with_name("postgres")
ROLE = "postgres"


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def layers(settings: Settings) -> tuple[Path, ...]:
    """The blobs of the lab's layer postgres and of all that it stands on, lowest first."""
    subprocess.run([QTRADE, "bake", "--version", "0.0.0", "--only", ROLE], check=True, timeout=1800)
    recipe, store = load_recipe(settings, "lab"), open_store(settings)
    inputs, _, _ = gather(settings, store, recipe, RecordingReporter())
    base = store.find_record(base_key(recipe, inputs))
    assert base is not None
    keys = {name: key_of(kind_of(name), fields) for name, fields in step_fields(recipe, inputs, base).items()}
    digests = [base.digest]
    for name in (*recipe.ancestors(ROLE), ROLE):
        if name != BASE:
            record = store.find_record(keys[name])
            assert record is not None, name
            digests.append(record.digest)
    return tuple(store.open_blob(digest) for digest in digests)


@pytest.mark.parametrize("case", ["cluster", "schema", "plans", "backup"])
def test_in_the_layers(case: str, layers: tuple[Path, ...], settings: Settings) -> None:
    work = settings.state_dir / "test-postgres" / case
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options = ("-q", "-x", "-p", "no:cacheprovider", "--import-mode=importlib", f"--rootdir={settings.project}")
    inner = (sys.executable, "-B", "-m", "pytest", *options, "-c", str(settings.project / "pyproject.toml"))
    chamber = Chamber(work, layers, (Command((*inner, str(CASES / f"case_{case}.py"))),))
    lines: list[str] = []
    try:
        run_in_chamber(chamber, env={"QTRADE_TEST_ROOT": str(chamber.root)}, timeout_s=600, on_line=lines.append)
    except ToolError:
        pytest.fail("\n".join(lines[-80:]))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert any(" passed" in line for line in lines), lines
    assert not any(" skipped" in line for line in lines), lines
