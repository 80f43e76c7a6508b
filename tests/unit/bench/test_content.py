"""All peers bake the same content, and each says what it needs."""

import shutil
from pathlib import Path

import pytest

from bake.inputs import hash_folder
from bake.run import load_recipe
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from tests.bench.cases import CHANGED, Bench
from tests.bench.content import EARLY, change_role, copy_project, lay_files, packages_of, standin_debs
from tests.bench.peers import PEERS
from tests.bench.peers.scripts import bootstrap, fill_archives, write_script

pytestmark = pytest.mark.unit
PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(Settings(PROJECT, tmp_path, tmp_path / "store"), "lab")


def test_packages_are_those_of_base_and_layers(recipe: Recipe) -> None:
    packages = packages_of(recipe)
    assert packages[0] == recipe.base.kernel
    assert {"python3-apt", "chrony", "postgresql-17"} <= set(packages)


def test_a_change_touches_one_file_that_is_baked(tmp_path: Path) -> None:
    copy_project(PROJECT, tmp_path)
    for number, role in enumerate(CHANGED.values()):
        folder = tmp_path / "ansible/roles" / role
        before = hash_folder(folder, ignored_on_top=("specs", "README.md", "config"))
        changed = change_role(tmp_path, role, number)
        assert changed.read_text().endswith(f"# change {number}\n")
        assert hash_folder(folder, ignored_on_top=("specs", "README.md", "config")) != before


def test_files_are_laid_where_the_roles_lay_them(tmp_path: Path, recipe: Recipe) -> None:
    lay_files(PROJECT, recipe, tmp_path / "files")
    for path in (
        EARLY,
        "usr/lib/systemd/system/qtrade-client.service",
        "usr/lib/qtrade/agent/__main__.py",
        "usr/bin/qtrade-agent",
    ):
        assert (tmp_path / "files" / path).is_file(), path
    assert not list((tmp_path / "files").rglob("*.j2"))
    assert (tmp_path / "files/usr/bin/qtrade-agent").stat().st_mode & 0o100


def test_standins_are_found_by_package_and_version(tmp_path: Path, recipe: Recipe) -> None:
    names = ("datadog-agent_7.78.2-1_amd64.deb", "otelcol-contrib_0.121.0_amd64.deb")
    for name in names:
        (tmp_path / name).touch()
    assert tuple(path.name for path in standin_debs(recipe, tmp_path)) == names
    (tmp_path / names[0]).unlink()
    with pytest.raises(FileNotFoundError):
        standin_debs(recipe, tmp_path)


@pytest.mark.parametrize("name", PEERS)
def test_a_case_stands_for_others_only_when_it_is_run_itself(name: str, tmp_path: Path, recipe: Recipe) -> None:
    settings = Settings(PROJECT, tmp_path, tmp_path / "store")
    peer = PEERS[name](Bench(settings, PROJECT, recipe, tmp_path, tmp_path), tmp_path)
    assert peer.name == name
    assert not set(peer.same_as.values()) & set(peer.same_as)


def test_archives_are_empty_or_filled(tmp_path: Path) -> None:
    debs = tmp_path / "debs"
    debs.mkdir()
    (debs / "digest").mkdir()
    (debs / "digest/a_1_all.deb").write_text("x")
    fill_archives(tmp_path / "archives", debs)
    assert (tmp_path / "archives/a_1_all.deb").is_file()
    fill_archives(tmp_path / "archives", None)
    assert [path.name for path in (tmp_path / "archives").iterdir()] == ["partial"]


def test_no_mirror_is_named(tmp_path: Path) -> None:
    argv = bootstrap(("a", "b"), "trixie", tmp_path / "root", tmp_path, "--extra")
    assert argv[-2:] == ["trixie", str(tmp_path / "root")]
    assert "--include=a,b" in argv
    assert not any("://" in word for word in argv)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_scripts_quote_arguments_and_keep_shell_lines(tmp_path: Path) -> None:
    script = write_script(tmp_path / "bin/run", ["x=1", ("printf", "%s", "$x a'b")])
    assert script.read_text().splitlines() == ["#!/bin/bash", "set -eu", "x=1", "printf %s '$x a'\"'\"'b'"]
    assert script.stat().st_mode & 0o111
