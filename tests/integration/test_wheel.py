"""The wheel works outside the checkout: roles, templates and schemas lie in it, and a bake has the same keys."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from setup import PRODUCT
from tests.fakes.examples import host_fields

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).resolve().parents[2]
LIBRARIES = Path(pytest.__file__).resolve().parents[1]


class Installed:
    """A wheel in a virtual environment of its own. Its dependencies are those of this environment, so that no network is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source, self.venv, self.here = folder / "source", folder / "venv", folder / "empty"
        self.here.mkdir()
        copy_committed(self.source)
        self.python(
            "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(self.source)
        )
        (self.wheel,) = folder.glob("*.whl")
        self.python("-m", "venv", "--without-pip", str(self.venv))
        self.python("-m", "pip", "-q", f"--python={self.venv}", "install", "--no-deps", "--no-index", str(self.wheel))
        (self.site,) = self.venv.glob("lib/python*/site-packages")
        (self.site / "dependencies.pth").write_text(f"{LIBRARIES}\n")
        self.state = self.here / ".state"

    @staticmethod
    def python(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run the installed `qtrade` in the empty folder, with nothing set that says where a project is."""
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment}
        argv = [self.venv / "bin/qtrade", *arguments]
        done = subprocess.run(argv, cwd=self.here, env=clean, check=False, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr


def copy_committed(target: Path) -> None:
    """Copy what git knows, as a build in the checkout would leave its own folders there."""
    git = ("git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(git, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)


@pytest.fixture(scope="module")
def qtrade(tmp_path_factory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_it_holds_every_file_of_the_product_once(qtrade) -> None:
    packed = qtrade.site / "qtrade/product"
    wanted = {path for name in PRODUCT for path in files_below(qtrade.source, name)}
    assert files_below(packed, ".") == wanted
    modes = {name: os.access(packed / name, os.X_OK) for name in wanted}
    assert modes == {name: os.access(qtrade.source / name, os.X_OK) for name in wanted}
    assert {name for name in wanted if (packed / name).read_bytes() != (qtrade.source / name).read_bytes()} == set()
    assert not (qtrade.source / "qtrade/product").exists()


def files_below(root: Path, name: str) -> set[str]:
    whole = root / name
    found = [whole] if whole.is_file() else [path for path in whole.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)) for path in found if "__pycache__" not in path.parts}


def test_it_runs_its_own_code_and_answers(qtrade) -> None:
    assert qtrade("--version").count(".") == 2
    assert "bake" in qtrade("--help")
    program = "import qtrade, bake, flash; print(qtrade.__file__, bake.__file__, flash.__file__)"
    places = subprocess.run(
        [qtrade.venv / "bin/python", "-c", program], cwd=qtrade.here, check=True, capture_output=True, text=True
    ).stdout.split()
    assert all(Path(place).is_relative_to(qtrade.venv) for place in places), places


def test_keys_are_made_in_the_state_directory_of_the_folder(qtrade) -> None:
    keys = json.loads(qtrade("keys", "init", "--json"))
    assert keys["here"]
    assert (qtrade.state / "keys/trust.json").is_file()


def test_a_schema_is_at_hand(qtrade) -> None:
    assert json.loads(qtrade("schema", "host"))["title"] == "Host"


def test_a_bake_has_the_keys_that_it_has_in_the_checkout(qtrade, tmp_path) -> None:
    """The same lock, the same digests: what was baked by one is a hit for the other."""
    state = tmp_path / "state"
    state.mkdir()
    for name in ("roots", "cache", "standins"):
        (state / name).symlink_to(CHECKOUT / ".state" / name)
    if (CHECKOUT / ".state/locks").is_dir():
        shutil.copytree(CHECKOUT / ".state/locks", state / "locks")
    command = ("bake", "--recipe", "lab", "--version", "0.1.0", "--dry-run", "--json")
    where = {"QTRADE_STATE_DIR": str(state)}
    own = [Path(sys.executable).parent / "qtrade", *command]
    env = {**os.environ, **where, "QTRADE_PROJECT": str(CHECKOUT)}
    theirs = json.loads(subprocess.run(own, env=env, check=True, capture_output=True, text=True).stdout)
    mine = json.loads(qtrade(*command, **where))
    assert mine == theirs
    assert len(mine["steps"]) == 10


def test_a_flash_is_planned_by_a_manifest_in_the_folder(qtrade) -> None:
    manifests = qtrade.here / "manifests/hosts"
    manifests.mkdir(parents=True)
    fields = host_fields(recipe="lab", driver={"kind": "ssh"}, doors=["in_place"], netboot=None, secrets={}, config={})
    (manifests / "rpc-1.yaml").write_text(yaml.safe_dump(fields))
    error = qtrade("flash", "--host", "rpc-1", "--dry-run", code=7)
    assert "the store has no image of lab" in error
    assert str(qtrade.site) not in error
    (listed,) = json.loads(qtrade("hosts", "list", "--json"))["hosts"]
    assert listed["name"] == "rpc-1"


def test_nothing_is_written_into_what_was_installed(qtrade) -> None:
    error = qtrade("lock", "--recipe", "production", "--update", "agave=9.9.9", code=7)
    assert "came with qtrade" in error
    assert str(qtrade.here / "manifests/images/production.yaml") in error
