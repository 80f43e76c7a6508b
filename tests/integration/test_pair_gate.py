"""A validator and a plugin that do not fit end a bake of the lab's roles: by recipe, by what was built, by what the plugin does.

Each fault is planted in a copy of the project; the layers that it does not touch come from the lab's store.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from qtrade.settings import Settings, load_settings
from qtrade.store import LocalStore
from tests.fakes.lab_layers import bake_recipe

pytestmark = pytest.mark.integration

ROLES = ("bare_metal", "geyser", "agave")
PLUGIN = "tests/standins/geyser/libyellowstone_grpc_geyser.so"
TEST_VALIDATOR = "tests/standins/agave/bin/solana-test-validator"
REFUSED = 7


@dataclass
class Pair:
    """A project that is this one, with the roles of the pair only, and a state directory that starts from the lab's."""

    settings: Settings

    def edit(self, path: str, before: str, after: str) -> None:
        """Replace what stands in a file of the project exactly once."""
        file = self.settings.project / path
        text = file.read_text()
        assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
        file.write_text(text.replace(before, after))

    def component(self, name: str, **fields: Any) -> None:
        path = self.settings.project / "manifests/images/lab.yaml"
        recipe = yaml.safe_load(path.read_text())
        recipe["components"][name] |= fields
        path.write_text(yaml.safe_dump(recipe))

    def bake(self) -> subprocess.CompletedProcess[str]:
        names = {"QTRADE_PROJECT": self.settings.project, "QTRADE_STATE_DIR": self.settings.state_dir}
        return subprocess.run(
            [Path(sys.executable).with_name("qtrade"), "bake", "--recipe", "lab", "--version", "1.0"],
            env={**os.environ, **{name: str(path) for name, path in names.items()}},
            capture_output=True,
            text=True,
            check=False,
        )

    def versions(self) -> tuple[str, ...]:
        return tuple(LocalStore(self.settings.store).versions("lab"))


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    """Return a state directory with the lab's layers, lock and tools."""
    real = load_settings()
    bake_recipe(real, "lab")
    state: Path = tmp_path_factory.mktemp("pair") / "state"
    (state / "cache").mkdir(parents=True)
    for name in ("roots", "standins", "cache/debs", "cache/blobs", "cache/builders"):
        (real.state_dir / name).mkdir(parents=True, exist_ok=True)
        (state / name).symlink_to(real.state_dir / name)
    for name in ("blobs", "records"):
        shutil.copytree(real.store / name, state / "store" / name, copy_function=os.link)
    return state


@pytest.fixture
def pair(tmp_path, state) -> Iterator[Pair]:
    real, project = load_settings(), tmp_path / "project"
    project.mkdir()
    for name in ("ansible", "packer", "flash"):
        (project / name).symlink_to(real.project / name)
    shutil.copytree(real.project / "manifests", project / "manifests")
    shutil.copytree(real.project / "tests/standins", project / "tests/standins")
    path = project / "manifests/images/lab.yaml"
    recipe = yaml.safe_load(path.read_text())
    recipe["layers"] = [layer for layer in recipe["layers"] if layer["role"] in ROLES]
    used = {name for layer in recipe["layers"] for name in layer.get("components", ())}
    recipe["components"] = {name: fields for name, fields in recipe["components"].items() if name in used}
    path.write_text(yaml.safe_dump(recipe))
    yield Pair(Settings(project, state, state / "store"))
    shutil.rmtree(state / "store/versions", ignore_errors=True)


def other_release(pair: Pair) -> None:
    pair.component("agave", version="4.3.0")


def other_rustc(pair: Pair) -> None:
    pair.component("geyser", rustc="1.95.0")


def built_by_other_rustc(pair: Pair) -> None:
    pair.edit("tests/standins/agave/version.yml", "rustc: 1.96.1", "rustc: 1.95.0")


def plugin_of_other_rustc(pair: Pair) -> None:
    """The recipe says 1.96.1; the bytes are of another compiler, which nobody sees before they are loaded."""
    pair.edit(PLUGIN, 'RUSTC = "15.1.2", "4.2.0", "1.96.1"', 'RUSTC = "15.1.2", "4.2.0", "1.95.0"')


def plugin_of_other_release(pair: Pair) -> None:
    pair.edit(PLUGIN, 'RUSTC = "15.1.2", "4.2.0", "1.96.1"', 'RUSTC = "15.1.2", "4.1.0", "1.96.1"')


def plugin_that_holds_and_says_other_rustc(pair: Pair) -> None:
    """Another compiler need not crash at once."""
    pair.edit(PLUGIN, 'rustc="{RUSTC}",git', 'rustc="1.95.0",git')


def plugin_that_holds_and_says_other_release(pair: Pair) -> None:
    pair.edit(PLUGIN, 'solana="{SOLANA}",rustc', 'solana="4.2.1",rustc')


def plugin_that_holds_and_is_another(pair: Pair) -> None:
    pair.edit(PLUGIN, 'version="{VERSION}",solana', 'version="15.0.0",solana')


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (other_release, "the plugin is for Agave 4.2.0, the validator is 4.3.0: another minor version"),
        (other_rustc, "the plugin is by rustc 1.95.0, the validator by rustc 1.96.1"),
        (built_by_other_rustc, "component agave 4.2.1 was built by rustc 1.95.0, the recipe says 1.96.1"),
        (plugin_of_other_rustc, "exit code 139; crashed: the plugin does not fit the validator by version or rustc"),
        (plugin_of_other_release, "exit code 139; crashed: the plugin does not fit the validator by version or rustc"),
        (plugin_that_holds_and_says_other_rustc, "the validator is by rustc 1.96.1, the plugin by rustc 1.95.0"),
        (plugin_that_holds_and_says_other_release, "the image names a plugin for 4.2.0, the plugin says 4.2.1"),
        (plugin_that_holds_and_is_another, "the image names plugin 15.1.2, it says 15.0.0"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_pair_that_does_not_fit_ends_the_bake(pair: Pair, plant: Callable[[Pair], None], words: str) -> None:
    plant(pair)
    done = pair.bake()
    assert done.returncode == REFUSED, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert pair.versions() == ()


def test_without_the_program_of_the_load_test_nothing_is_proven(pair: Pair) -> None:
    (pair.settings.project / TEST_VALIDATOR).unlink()
    done = pair.bake()
    assert done.returncode == 0, done.stderr
    assert "NOT PROVEN: specs of geyser were skipped" in done.stderr
    assert "the build of the validator left out solana-test-validator" in done.stderr
    assert pair.versions() == ("1.0",)
    shutil.rmtree(pair.settings.store / "versions")
    for name in ("agave", "geyser", "geyser-config-check"):
        pair.component(name, standin=False)
    done = pair.bake()
    assert done.returncode == REFUSED, done.stderr
    assert "recipe lab has no stand-ins, but specs of geyser were skipped" in done.stderr
    assert pair.versions() == ()
