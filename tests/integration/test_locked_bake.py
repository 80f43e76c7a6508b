"""Bakes from a lock: without a network, from exactly the locked bytes, and never from others."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bake.lock.check import lock_path
from bake.lock.document import Lock, digest_packages, read_lock
from bake.lock.tools import resolve_tools
from bake.tools import ensure_tools
from qtrade.errors import BadInput, NotFound, TrustError
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project, own_cache, spoil

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    """A locked project with a cache of its own, from which nothing was baked."""
    tiny = make_tiny_project(load_settings(), tmp_path_factory.mktemp("locked"))
    own_cache(tiny)
    run(tiny, "lock", "--recipe", "tiny")
    return tiny


def run(tiny: TinyProject, *args: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, QTRADE, *args], env=tiny.environment, capture_output=True, text=True, check=False, timeout=900
    )


def lock_of(tiny: TinyProject) -> Lock:
    lock = read_lock(lock_path(tiny.settings, tiny.recipe))
    assert lock is not None
    return lock


def cached(tiny: TinyProject, name: str) -> Path:
    package = next(package for package in lock_of(tiny).all_packages() if package.name == name)
    return tiny.settings.cache_dir / "blobs" / package.sha256 / package.file


def test_a_lock_names_every_package_of_the_image_and_no_mirror(tiny) -> None:
    lock = lock_of(tiny)
    names = {package.name for package in lock.base}
    assert {"libc6", "apt", "systemd-sysv", "python3"} <= names
    assert any(name.startswith("linux-image-6") for name in names)
    assert {"jq", "libjq1"} <= {package.name for package in lock.layers["one"]}
    assert not names & {package.name for package in lock.layers["one"]}
    assert "://" not in lock_path(tiny.settings, tiny.recipe).read_text()
    assert all(cached(tiny, package.name).stat().st_size == package.size for package in lock.layers["one"])


def test_the_tools_root_is_locked_whole_and_is_the_one_that_is_made_without_a_lock(tiny) -> None:
    lock = lock_of(tiny)
    assert {"erofs-utils", "tar", "fsverity", "grub-pc-bin", "mtools", "libc6"} <= {item.name for item in lock.tools}
    assert all(cached(tiny, package.name).is_file() for package in lock.tools)
    assert digest_packages(resolve_tools(tiny.settings, tiny.reporter)) == lock.tools_digest()


def test_a_second_lock_changes_nothing_and_needs_no_network(tiny) -> None:
    before = lock_path(tiny.settings, tiny.recipe).read_text()
    done = run(tiny, "lock", "--recipe", "tiny", "--json", before=("unshare", "--net"))
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["done"], json.loads(done.stdout)["changes"]) == ("unchanged", [])
    assert lock_path(tiny.settings, tiny.recipe).read_text() == before


@pytest.mark.parametrize(
    ("name", "command"),
    [("tzdata", ("bake", "--version", "spoilt", "--from-scratch")), ("libjq1", ("lock", "--fetch"))],
)
def test_a_changed_byte_in_the_cache_is_noticed_and_named(tiny, name, command) -> None:
    path = cached(tiny, name)
    good = path.read_bytes()
    spoil(path)
    done = run(tiny, *command, "--recipe", "tiny")
    path.write_bytes(good)
    assert done.returncode == TrustError.exit_code, done.stderr
    for word in (f"package {name} ", str(path), path.parent.name, "qtrade lock --fetch"):
        assert word in done.stderr
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "spoilt")


def test_a_fresh_machine_bakes_from_lock_and_cache_without_a_network(tiny, tmp_path) -> None:
    """Nothing of the machine but the lock and the bytes that `qtrade lock --fetch` brings; the tools root is made of them."""
    first = run(tiny, "bake", "--recipe", "tiny", "--version", "first", "--json")
    assert first.returncode == 0, first.stderr
    assert run(tiny, "lock", "--recipe", "tiny", "--fetch").returncode == 0
    state = tmp_path / "state"
    for name in ("cache/blobs", "locks"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).symlink_to((tiny.settings.state_dir / name).resolve())
    _lend_packer(tiny, state)
    fresh = TinyProject(replace(tiny.settings, state_dir=state, store=state / "store"))
    done = run(fresh, "bake", "--recipe", "tiny", "--version", "fresh", "--json", before=("unshare", "--net"))
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["built"]) == {"base", "initrd", "installer", "one", "two"}
    assert json.loads(done.stdout)["id"] == json.loads(first.stdout)["id"]
    locked = {package.name for part in ("base", "layer one") for package in lock_of(tiny).packages()[part]}
    base, one = (fresh.store.open_blob(layer.digest) for layer in tiny_image(fresh, "fresh").layers[:2])
    assert packages_of(tiny, base) | packages_of(tiny, one) == locked
    root = fresh.settings.tools_dir.resolve()
    assert root == state / f"roots/tools-{lock_of(tiny).tools_digest()[:16]}"
    status = (root / "var/lib/dpkg/status").read_text()
    installed = {line.split(": ")[1] for line in status.splitlines() if line.startswith("Package: ")}
    assert installed == {package.name for package in lock_of(tiny).tools}


def _lend_packer(tiny: TinyProject, state: Path) -> None:
    """Lend Packer's program where the machine has none of its own: no lock holds it, and it makes no bytes."""
    lent = tiny.settings.state_dir / "roots/packer"
    if lent.exists():
        (state / "roots").mkdir(parents=True)
        (state / "roots/packer").symlink_to(lent.resolve())


def test_a_changed_tool_is_noticed_and_named(tiny, tmp_path) -> None:
    package = next(item for item in lock_of(tiny).tools if item.name == "erofs-utils")
    path = tiny.settings.cache_dir / "blobs" / package.sha256 / package.file
    good = path.read_bytes()
    spoil(path)
    state = tmp_path / "state"
    (state / "cache").mkdir(parents=True)
    (state / "cache/blobs").symlink_to(tiny.settings.cache_dir / "blobs")
    try:
        with pytest.raises(TrustError, match="package erofs-utils ") as caught:
            ensure_tools(replace(tiny.settings, state_dir=state), lock_of(tiny).tools)
    finally:
        path.write_bytes(good)
    assert str(path.name) in caught.value.details
    assert not (state / "roots/tools").exists()


def tiny_image(tiny: TinyProject, version: str):
    from qtrade.manifest import Image  # noqa: PLC0415

    return Image.model_validate_json(tiny.store.read("tiny", version).image_text)


def packages_of(tiny: TinyProject, blob: Path) -> set[str]:
    """Return the names in the dpkg database that a layer ships."""
    tool = tiny.settings.tools_dir / "usr/bin/fsck.erofs"
    target = tiny.settings.state_dir / "unpacked" / blob.name
    target.parent.mkdir(exist_ok=True)
    loader = tiny.settings.tools_dir / "lib64/ld-linux-x86-64.so.2"
    libraries = tiny.settings.tools_dir / "usr/lib/x86_64-linux-gnu"
    argv = [loader, "--library-path", libraries, tool, f"--extract={target}", "--overwrite", blob]
    subprocess.run(argv, check=True, capture_output=True)
    status = (target / "var/lib/dpkg/status").read_text()
    return {line.split(": ")[1] for line in status.splitlines() if line.startswith("Package: ")}


def test_a_missing_package_without_a_network_names_what_is_missing(tiny) -> None:
    path = cached(tiny, "libjq1")
    kept = path.rename(path.with_suffix(".kept"))
    debs = tiny.settings.cache_dir / "debs"
    shared = debs.readlink()
    debs.unlink()
    try:
        done = run(tiny, "lock", "--recipe", "tiny", "--fetch", before=("unshare", "--net"))
    finally:
        kept.rename(path)
        debs.symlink_to(shared)
    assert done.returncode == NotFound.exit_code, done.stderr
    assert "1 locked package(s) are neither in the cache nor at the mirror" in done.stderr
    assert "libjq1 " in done.stderr
    assert "qtrade lock --update" in done.stderr


def test_a_recipe_that_asks_for_more_keeps_what_is_locked_and_adds_the_rest(tiny) -> None:
    path = tiny.settings.project / "manifests/images/tiny.yaml"
    before, text = lock_of(tiny), path.read_text()
    fields = yaml.safe_load(text)
    fields["layers"][0]["packages"].append("hello")
    fields["lock"] = "committed"
    path.write_text(yaml.safe_dump(fields))
    committed = lock_path(tiny.settings, tiny.recipe)
    try:
        committed.write_text(lock_path(tiny.settings, tiny.recipe.model_copy(update={"lock": "auto"})).read_text())
        refused = run(tiny, "bake", "--recipe", "tiny", "--version", "stale")
        assert refused.returncode == BadInput.exit_code
        assert "packages of one: changed in the recipe" in refused.stderr
        assert "run `qtrade lock --recipe tiny`" in refused.stderr
        done = run(tiny, "lock", "--recipe", "tiny", "--json")
        assert done.returncode == 0, done.stderr
        changes = json.loads(done.stdout)["changes"]
        assert [(change["part"], change["name"], change["kind"]) for change in changes] == [
            ("layer one", "hello", "added")
        ]
        after = lock_of(tiny)
        assert (after.base, {*before.layers["one"]} - {*after.layers["one"]}) == (before.base, set())
    finally:
        path.write_text(text)
        committed.unlink(missing_ok=True)
    assert os.path.realpath(tiny.settings.cache_dir / "blobs") == str(tiny.settings.cache_dir / "blobs")
