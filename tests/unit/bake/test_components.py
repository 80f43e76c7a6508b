"""Components by what the lock says, and folders of the project by what they hold."""

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bake.components import Fetched, list_components
from bake.components.take import take_components
from bake.lock.document import Lock, LockedBuild, LockedFile
from qtrade.errors import NotFound, TrustError
from qtrade.settings import Settings
from qtrade.store import LocalStore
from tests.fakes.examples import make_recipe, make_settings, sha

pytestmark = pytest.mark.unit

FOLDER = {"kind": "source", "path": "part", "version": "1"}


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    (settings.project / "part").mkdir()
    (settings.project / "part/x").write_text("1")
    return settings


def listed(settings: Settings, component: dict[str, Any], **locked: Any) -> Fetched:
    recipe = make_recipe(components={"part": component}, layers=[{"role": "app"}])
    lock = Lock(recipe="demo", suite="trixie", wants={}, components=locked)
    return list_components(settings, recipe, lock)["part"]


def test_a_folder_comes_from_the_project_and_has_no_lock(settings) -> None:
    before = listed(settings, FOLDER)
    (settings.project / "part/specs").mkdir()
    (settings.project / "part/specs/y").write_text("ships too")
    after = listed(settings, FOLDER)
    assert (before.path, before.locked) == (settings.project / "part", None)
    assert after.sha256 != before.sha256
    with pytest.raises(NotFound, match="component part"):
        listed(settings, {**FOLDER, "path": "ghost"})


def test_a_locked_file_is_listed_without_being_there(settings) -> None:
    locked = LockedFile(version="1", address="a", file="x.bin", sha256=sha("x"), size=1, digest_from="first fetch")
    item = listed(settings, {"kind": "url", "url": "https://example.org/x.bin", "version": "1"}, part=locked)
    assert (item.sha256, item.locked, item.path.exists()) == (sha("x"), locked, False)
    assert item.path == settings.cache_dir / "blobs" / sha("x") / "x.bin"


def make_build(settings: Settings, tmp_path: Path) -> Fetched:
    """Return a built component whose archive is in the store only."""
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    archive = tmp_path / "part.tar"
    with tarfile.open(archive, "w") as sink:
        sink.add(program, "bin/hello")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    fields = {"version": "1", "key": sha("k"), "file": "part.tar", "sha256": digest, "provenance": sha("p")}
    built = LockedBuild(**fields, size=archive.stat().st_size)
    LocalStore(settings.store).add_blob(archive, digest)
    build = {"packages": ["gcc"], "command": "make", "output": "out"}
    return listed(settings, {**FOLDER, "build": build}, part=built)


def test_what_was_built_comes_from_the_store_unpacked(settings, tmp_path) -> None:
    item, store = make_build(settings, tmp_path), LocalStore(settings.store)
    folder = take_components(settings, store, {"part": item}, ["part"], tmp_path / "one")["part"]
    assert (folder / "bin/hello").stat().st_mode & 0o777 == 0o755
    assert item.path.is_file()
    item.path.write_bytes(item.path.read_bytes() + b"!")
    with pytest.raises(TrustError, match="component part 1: its file in the cache was changed"):
        take_components(settings, store, {"part": item}, ["part"], tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_only_the_named_components_are_taken(settings, tmp_path) -> None:
    item = listed(settings, FOLDER)
    store = LocalStore(settings.store)
    assert take_components(settings, store, {"part": item, "other": item}, ["part"], tmp_path) == {"part": item.path}


def make_release(settings: Settings, tmp_path: Path, name: str) -> Fetched:
    """Return a released file that is in the cache: an archive with a program, whatever its name says."""
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    archive = tmp_path / name
    with tarfile.open(archive, "w:gz") as sink:
        sink.add(program, "bin/tool")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    kept = settings.cache_dir / "blobs" / digest / name
    kept.parent.mkdir(parents=True)
    archive.rename(kept)
    fields = {"version": "1", "address": "a", "file": name, "size": kept.stat().st_size, "digest_from": "recipe"}
    component = {"kind": "url", "url": f"https://example.org/{name}", "version": "1"}
    return listed(settings, component, part=LockedFile(**fields, sha256=digest))


def test_a_released_archive_comes_unpacked(settings, tmp_path) -> None:
    item = make_release(settings, tmp_path, "part.tar.gz")
    folder = take_components(settings, LocalStore(settings.store), {"part": item}, ["part"], tmp_path / "work")["part"]
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["bin", "bin/tool"]
    assert (folder / "bin/tool").stat().st_mode & 0o777 == 0o755


def test_a_released_file_of_another_kind_comes_as_it_is(settings, tmp_path) -> None:
    item = make_release(settings, tmp_path, "part.deb")
    taken = take_components(settings, LocalStore(settings.store), {"part": item}, ["part"], tmp_path / "work")
    assert taken["part"] == item.path
    assert not (tmp_path / "work").exists()


def test_a_changed_archive_is_refused_before_it_is_unpacked(settings, tmp_path) -> None:
    item = make_release(settings, tmp_path, "part.tar.gz")
    item.path.write_bytes(item.path.read_bytes() + b"!")
    with pytest.raises(TrustError, match="component part 1: its file in the cache was changed"):
        take_components(settings, LocalStore(settings.store), {"part": item}, ["part"], tmp_path / "work")
    assert not (tmp_path / "work").exists()
