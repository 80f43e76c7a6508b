"""A component built from source: a real C program in a root of locked packages, without a network, once and for ever."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from bake.components import list_components
from bake.components.builder import provenance_of
from bake.components.take import take_components
from bake.lock.document import LockedBuild
from bake.lock.update import Outcome, Request, update_lock
from qtrade.errors import BadInput, NotFound, ToolError, TrustError
from qtrade.manifest import Recipe
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project, own_cache, spoil

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"
FIXTURE = Path(__file__).resolve().parents[1] / "fixtures/hello"
HELLO: dict[str, Any] = {
    "kind": "source",
    "path": "hello",
    "version": "1.2",
    "build": {
        "packages": ["gcc", "libc6-dev", "make"],
        # The fetch has the network of the machine, the build has none: its Makefile looks.
        "fetch": 'test "$(grep -c : /proc/net/dev)" -gt 1 && touch fetched',
        "command": "make VERSION={version}",
        "output": "out",
        "versions": ["gcc --version"],
    },
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    tiny = make_tiny_project(load_settings(), tmp_path_factory.mktemp("build"))
    shutil.copytree(FIXTURE, tiny.settings.project / "hello")
    write_recipe(tiny, HELLO)
    return tiny


def write_recipe(tiny: TinyProject, component: dict[str, Any]) -> None:
    path = tiny.settings.project / "manifests/images/tiny.yaml"
    fields = yaml.safe_load(path.read_text())
    fields["components"] = {"hello": component}
    fields["layers"][1]["components"] = ["hello"]
    path.write_text(yaml.safe_dump(fields))


def lock(tiny: TinyProject, **request: Any) -> Outcome:
    return update_lock(tiny.settings, tiny.store, tiny.recipe, Request(**request), tiny.reporter)


@pytest.fixture(scope="module")
def first(tiny) -> Outcome:
    return lock(tiny)


@pytest.fixture
def built(first) -> LockedBuild:
    found = first.lock.components["hello"]
    assert isinstance(found, LockedBuild)
    return found


def take(tiny: TinyProject, recipe: Recipe, outcome: Outcome, work: Path) -> Path:
    components = list_components(tiny.settings, recipe, outcome.lock)
    return take_components(tiny.settings, tiny.store, components, ["hello"], work)["hello"]


def test_the_program_was_built_and_runs(tiny, first, built, tmp_path) -> None:
    assert "build component hello" in tiny.reporter.steps
    folder = take(tiny, tiny.recipe, first, tmp_path)
    said = subprocess.run([folder / "bin/hello", FIXTURE], check=True, capture_output=True, text=True).stdout
    assert said.startswith("hello 1.2, gcc ")
    assert said.splitlines()[1] == str(len(list(FIXTURE.iterdir())))


def test_the_archive_is_the_same_on_every_machine_but_for_the_bytes_of_the_build(tiny, built) -> None:
    path = tiny.settings.cache_dir / "blobs" / built.sha256 / built.file
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [".", "./bin", "./bin/hello"]
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, tiny.recipe.epoch)}


def test_the_provenance_says_what_went_in(tiny, first, built) -> None:
    document = provenance_of(tiny.settings, tiny.store, built)
    assert (document["component"], document["key"], document["output"]) == ("hello", built.key, built.sha256)
    assert document["command"] == "make VERSION=1.2"
    assert "$ gcc --version\ngcc (Debian" in str(document["versions"])
    locked = [[*package.identity, package.sha256] for package in first.lock.builders["hello"]]
    assert document["builder"] == locked
    assert {"gcc", "make", "libc6"} <= {package[0] for package in locked}
    assert tiny.store.find_record(built.key).digest == built.sha256


def test_a_second_lock_builds_nothing_and_a_lost_cache_comes_from_the_store(tiny, first, built, tmp_path) -> None:
    before = tiny.reporter.steps.count("build component hello")
    again = lock(tiny)
    assert (again.changes, tiny.reporter.steps.count("build component hello")) == ((), before)
    blobs = own_cache(tiny)
    shutil.rmtree(blobs / built.sha256)
    assert (take(tiny, tiny.recipe, first, tmp_path) / "bin/hello").is_file()
    assert (blobs / built.sha256 / built.file).is_file()


def test_a_changed_byte_of_the_result_is_noticed_and_named(tiny, first, built, tmp_path) -> None:
    path = tiny.settings.cache_dir / "blobs" / built.sha256 / built.file
    good = path.read_bytes()
    spoil(path)
    with pytest.raises(TrustError, match=r"component hello 1\.2: its file in the cache was changed") as caught:
        take(tiny, tiny.recipe, first, tmp_path)
    path.write_bytes(good)
    assert str(path) in caught.value.details


def test_a_result_that_is_lost_everywhere_is_not_replaced_by_another(tiny, first, built, tmp_path) -> None:
    cached = tiny.settings.cache_dir / "blobs" / built.sha256
    stored = tiny.store.open_blob(built.sha256)
    for path in (cached, stored):
        path.rename(path.with_name("away-" + path.name))
    try:
        with pytest.raises(NotFound, match="neither in the cache nor in the store") as caught:
            take(tiny, tiny.recipe, first, tmp_path)
        assert lock(tiny, names={"hello": None}).lock.components["hello"] == built
    finally:
        for path in (cached, stored):
            path.with_name("away-" + path.name).rename(path)
    assert "--accept-changed hello" in caught.value.resolution


def test_a_changed_source_is_another_build_and_a_dry_run_only_says_so(tiny, built) -> None:
    source = tiny.settings.project / "hello/hello.c"
    text = source.read_text()
    source.write_text(text.replace('"hello "', '"good day "'))
    try:
        outcome = lock(tiny, dry_run=True)
    finally:
        source.write_text(text)
    assert outcome.unbuilt == ("hello",)
    assert (outcome.changes, outcome.lock.components["hello"]) == ((), built)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        ({"command": "make nothing"}, ToolError, "No rule to make target 'nothing'"),
        ({"command": "true", "output": "ghost"}, BadInput, "the build left no ghost"),
        ({"command": "true", "output": "../home"}, BadInput, "the build left no ../home"),
        ({"command": "ls /etc/passwd-of-nobody"}, ToolError, "passwd-of-nobody"),
    ],
)
def test_a_build_that_fails_says_why_and_leaves_no_lock_behind(tiny, first, build, error, words) -> None:
    path = tiny.settings.state_dir / "locks/tiny.lock.json"
    before = path.read_text()
    write_recipe(tiny, {**HELLO, "build": {**HELLO["build"], **build}})
    try:
        with pytest.raises(error) as caught:
            lock(tiny)
    finally:
        write_recipe(tiny, HELLO)
    assert words in caught.value.render()
    assert path.read_text() == before
    assert not (tiny.settings.state_dir / "lock-work").exists()


def test_a_bake_takes_the_built_component(tiny, first, built) -> None:
    tiny.add_task("two", "ansible.builtin.command", cmd="/run/qtrade/components/hello/bin/hello /etc")
    command = [QTRADE, "bake", "--recipe", "tiny", "--version", "1.0", "--json"]
    done = subprocess.run(command, env=tiny.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "two" in json.loads(done.stdout)["built"]
