"""What is locked holds while the mirror moves on: versions that its index has dropped come from the cache."""

import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from bake.lock.cache import adopt
from bake.lock.check import lock_path
from bake.lock.document import Lock, LockedPackage, read_lock, write_lock
from bake.lock.packages import open_archive
from bake.lock.update import Request, update_lock
from qtrade.errors import NotFound, ToolError
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

NAME = "qtrade-kept"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    return make_tiny_project(load_settings(), tmp_path_factory.mktemp("kept"))


def make_deb(folder: Path, version: str) -> Path:
    """Build a package that no mirror has."""
    root = folder / version
    (root / "DEBIAN").mkdir(parents=True)
    fields = {"Package": NAME, "Version": version, "Architecture": "all", "Maintainer": "tests", "Depends": "libc6"}
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    (root / "DEBIAN/control").write_text(f"{text}Description: kept\n")
    target = folder / f"{NAME}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, target], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def kept(tiny, tmp_path_factory) -> LockedPackage:
    """A package that is locked for layer `one` and in the cache, and that the mirror has not, or no more."""
    deb = make_deb(tmp_path_factory.mktemp("deb"), "1.0")
    content = deb.read_bytes()
    package = LockedPackage(
        name=NAME,
        version="1.0",
        architecture="all",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        filename=f"pool/main/q/{NAME}/{deb.name}",
    )
    adopt(deb, tiny.settings, package.sha256)
    lock = lock_of(tiny)
    write_lock(lock.model_copy(update={"layers": {"one": (*lock.layers["one"], package)}}), path_of(tiny))
    return package


def path_of(tiny: TinyProject) -> Path:
    return lock_path(tiny.settings, tiny.recipe)


def lock_of(tiny: TinyProject) -> Lock:
    lock = read_lock(path_of(tiny))
    assert lock is not None
    return lock


def ask_for(tiny: TinyProject, *packages: str) -> None:
    path = tiny.settings.project / "manifests/images/tiny.yaml"
    fields = yaml.safe_load(path.read_text())
    fields["layers"][0]["packages"] = list(packages)
    path.write_text(yaml.safe_dump(fields))


def update(tiny: TinyProject, **request) -> Lock:
    return update_lock(tiny.settings, tiny.store, tiny.recipe, Request(**request), tiny.reporter).lock


def test_a_locked_version_that_the_mirror_has_not_holds_when_the_recipe_asks_for_more(tiny, kept) -> None:
    before = lock_of(tiny)
    ask_for(tiny, "jq", NAME, "hello")
    after = update(tiny)
    assert kept in after.layers["one"]
    assert {package.name for package in after.layers["one"]} - {package.name for package in before.layers["one"]} == {
        "hello"
    }
    assert after.base == before.base


def test_an_update_of_everything_does_not_hold_it(tiny, kept) -> None:
    ask_for(tiny, "jq", NAME, "hello")
    before = path_of(tiny).read_text()
    with pytest.raises(ToolError, match=f"apt finds no way to install jq {NAME} hello"):
        update(tiny, everything=True)
    assert path_of(tiny).read_text() == before
    ask_for(tiny, "jq")
    assert kept not in update(tiny, everything=True, dry_run=True).layers["one"]


def test_a_version_that_nobody_has_is_refused(tiny) -> None:
    ask_for(tiny, "jq")
    with pytest.raises(NotFound, match=r"trixie has no jq=0\.0-ghost") as caught:
        update(tiny, names={"jq": "0.0-ghost"})
    (locked,) = [package for package in lock_of(tiny).layers["one"] if package.name == "jq"]
    assert locked.version in caught.value.details


def test_without_its_bytes_a_dropped_version_is_named(tiny, kept, tmp_path) -> None:
    gone = kept.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(NotFound, match="neither in the cache nor at the mirror") as caught:
        open_archive(tiny.settings, tiny.recipe.base.suite, tmp_path / "work", keep=(gone,))
    assert f"{NAME} 1.0" in caught.value.details
