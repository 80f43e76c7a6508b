"""The production recipe as it is committed: it validates, locks against servers with upstream's shapes, and plans by that lock.

Only addresses differ, and the key that signs Datadog's repository. The builder root of Agave has git and a toolchain of scripts: what Rust
would compile for hours is not the recipe's. Its commands are.
"""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bake import run
from bake.lock.check import check_lock, lock_path
from bake.lock.command import Options
from bake.lock.command import run as run_lock
from bake.lock.document import Lock, LockedBuild, LockedFile, read_lock
from bake.lock.web import TOKEN_VARIABLE
from bake.plan import Action
from bake.target_python import SUITE_PYTHON
from qtrade.errors import BadInput, NotFound, TrustError
from qtrade.process import CLEAN_PATH
from qtrade.settings import Settings, load_settings
from qtrade.store import LocalStore
from tests.fakes.production_upstream import TOOLCHAIN_FOLDER, Upstreams, serve_production
from tests.fakes.reporter import RecordingReporter
from tests.fakes.upstream_server import TOKEN, serve_upstream

pytestmark = pytest.mark.integration

RECIPE = "manifests/images/production.yaml"


class Production:
    """A project that is this one, but for the addresses in its production recipe, with a state directory of its own."""

    def __init__(self, real: Settings, folder: Path, upstreams: Upstreams) -> None:
        self.upstreams, self.reporter = upstreams, RecordingReporter()
        self.settings = Settings(folder / "project", folder / "state", folder / "state/store")
        for name in ("ansible", "packer", "flash"):
            (folder / "project").mkdir(exist_ok=True)
            (folder / "project" / name).symlink_to(real.project / name)
        ignored = shutil.ignore_patterns("*.lock.json")
        shutil.copytree(real.project / "manifests", folder / "project/manifests", ignore=ignored)
        (folder / "state/cache").mkdir(parents=True)
        for name in ("roots", "cache/debs", "cache/blobs", "cache/builders"):
            (real.state_dir / name).mkdir(parents=True, exist_ok=True)
            (folder / "state" / name).symlink_to(real.state_dir / name)

    @property
    def path(self) -> Path:
        return self.settings.project / RECIPE

    def write(self, **agave: Any) -> None:
        """Write the recipe with redirected addresses; `agave` changes fields of its build."""
        fields = yaml.safe_load((load_settings().project / RECIPE).read_text())
        fields["components"] = self.upstreams.redirect(fields["components"])
        fields["components"]["agave"]["build"] |= agave
        self.path.write_text(yaml.safe_dump(fields))

    def lock(self, **options: Any):
        return run_lock(self.settings, "production", Options(**options), self.reporter)

    @property
    def locked(self) -> Lock:
        lock = read_lock(lock_path(self.settings, run.load_recipe(self.settings, "production")))
        assert lock is not None
        return lock


@pytest.fixture(scope="module")
def production(tmp_path_factory) -> Iterator[Production]:
    real = load_settings()
    folder = tmp_path_factory.mktemp("production")
    kept = os.environ.get(TOKEN_VARIABLE)
    os.environ[TOKEN_VARIABLE] = TOKEN
    fields = yaml.safe_load((real.project / RECIPE).read_text())
    try:
        with serve_upstream() as web, serve_production(web, fields["components"], folder) as upstreams:
            yield Production(real, folder, upstreams)
    finally:
        os.environ.pop(TOKEN_VARIABLE)
        if kept is not None:
            os.environ[TOKEN_VARIABLE] = kept


@pytest.fixture(scope="module")
def wanted(production) -> Any:
    """What a lock of the recipe with all its builder packages would be."""
    production.write()
    return production.lock(dry_run=True)


@pytest.fixture(scope="module")
def locked(production, wanted) -> Lock:
    path = f"/build/source/{TOOLCHAIN_FOLDER}:{CLEAN_PATH}"
    fields = yaml.safe_load((load_settings().project / RECIPE).read_text())["components"]["agave"]["build"]
    production.write(packages=["git"], environment={**fields["environment"], "PATH": path})
    assert production.lock().done == "locked"
    return production.locked


def test_apt_finds_every_package_of_the_recipe_and_every_upstream_has_its_part(production, wanted) -> None:
    assert wanted.done == "would lock"
    assert wanted.unbuilt == ("agave",)
    builder = {package.name for package in wanted.lock.builders["agave"]}
    asked = yaml.safe_load((load_settings().project / RECIPE).read_text())["components"]["agave"]["build"]["packages"]
    assert set(asked) <= builder
    assert set(wanted.lock.components) == set(production.upstreams.contents)
    assert not lock_path(production.settings, run.load_recipe(production.settings, "production")).exists()


def test_the_archive_has_the_python_that_the_table_says(wanted) -> None:
    (python,) = [package.version for package in wanted.lock.base if package.name == "python3"]
    major, minor = SUITE_PYTHON[wanted.lock.suite]
    assert python.startswith(f"{major}.{minor}.")


def test_every_file_has_upstreams_digest_and_is_in_the_cache(production, locked) -> None:
    origins = {name: item.digest_from for name, item in locked.components.items() if isinstance(item, LockedFile)}
    assert set(origins) == set(production.upstreams.contents)
    assert origins["datadog-agent"] == "Packages"
    assert origins["geyser"].startswith("checksums yellowstone-grpc_15.1.2+solana.4.2.0")
    assert origins["otelcol-contrib"].startswith("checksums opentelemetry-collector-releases")
    assert origins["qtrade-client"] == "GitHub release"
    for name, content in production.upstreams.contents.items():
        item = locked.components[name]
        assert isinstance(item, LockedFile)
        assert item.sha256 == hashlib.sha256(content).hexdigest()
        assert (production.settings.cache_dir / "blobs" / item.sha256 / item.file).read_bytes() == content


def test_the_vendors_repository_is_believed_by_its_pinned_key(production, locked) -> None:
    item = locked.components["datadog-agent"]
    assert isinstance(item, LockedFile)
    assert item.signed_by == production.upstreams.fingerprint
    assert "/apt/dists/stable/7/binary-amd64/Packages.gz" in production.upstreams.web.paths()


def test_agave_is_built_of_the_commit_that_its_tag_names_by_the_recipes_own_commands(production, locked) -> None:
    item = locked.components["agave"]
    assert isinstance(item, LockedBuild)
    assert (item.tag, item.commit) == (f"v{item.version}", production.upstreams.commit)
    archive = LocalStore(production.settings.store).open_blob(item.sha256)
    with tarfile.open(archive) as tar:
        member = tar.extractfile("./bin/agave-validator")
        called = tar.extractfile("./called-with")
        version = tar.extractfile("./version.yml")
        assert member is not None
        assert version is not None
        assert called is not None
        assert production.upstreams.commit in member.read().decode()
        assert called.read().decode().split()[-1] == "/build/source/qtrade-output"
        assert yaml.safe_load(version.read()) == {
            "channel": f"v{item.version}",
            "commit": item.commit,
            "target": "x86_64-unknown-linux-gnu",
            "rustc": "1.96.1",
        }


def test_the_token_went_to_the_private_release_only_and_is_in_no_file(production, locked) -> None:
    path = lock_path(production.settings, run.load_recipe(production.settings, "production"))
    assert path == production.path.with_name("production.lock.json")
    assert TOKEN not in path.read_text()
    private = {item for item in production.upstreams.web.tokens() if "/qtrade/qtrade-client/" in item}
    downloads = {item for item in production.upstreams.web.tokens() if "/releases/download/" in item}
    assert private
    assert downloads == set()


def test_the_recipe_plans_by_its_lock_and_asks_nobody(production, locked) -> None:
    recipe = run.load_recipe(production.settings, "production")
    production.upstreams.web.seen.clear()
    assert check_lock(production.settings, recipe) == locked
    steps = {step.name: step.action for step in run.plan(production.settings, recipe)}
    assert set(steps) == {"base", "initrd", "installer", *(layer.role for layer in recipe.layers)}
    assert set(steps.values()) == {Action.BUILD}
    assert production.lock().done == "unchanged"
    assert production.upstreams.web.seen == []


def test_without_its_lock_and_with_another_recipe_than_the_locked_one_a_bake_is_refused(production, locked) -> None:
    recipe = run.load_recipe(production.settings, "production")
    path, text = lock_path(production.settings, recipe), production.path.read_text()
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        with pytest.raises(NotFound, match="production is not locked yet"):
            run.plan(production.settings, recipe)
    finally:
        hidden.rename(path)
    try:
        production.path.write_text(text.replace("0.121.0", "0.122.0"))
        with pytest.raises(BadInput) as caught:
            run.plan(production.settings, run.load_recipe(production.settings, "production"))
        assert "otelcol-contrib: changed in the recipe" in caught.value.details
    finally:
        production.path.write_text(text)


def test_upstream_that_changes_a_locked_file_is_an_alarm(production, locked) -> None:
    web, text = production.upstreams.web, lock_path_text(production)
    name = f"otelcol-contrib_{locked.components['otelcol-contrib'].version}_linux_amd64.deb"
    repository, tag = "open-telemetry/opentelemetry-collector-releases", "v0.121.0"
    sums = f"{hashlib.sha256(b'other').hexdigest()}  {name}\n".encode()
    asset = "opentelemetry-collector-releases_otelcol-contrib_checksums.txt"
    web.add_release(repository, tag, {name: b"other", asset: sums})
    with pytest.raises(TrustError, match="other bytes"):
        production.lock(names=("otelcol-contrib",), update=True)
    assert lock_path_text(production) == text


def lock_path_text(production: Production) -> str:
    return lock_path(production.settings, run.load_recipe(production.settings, "production")).read_text()
