"""`qtrade lock` with its options, against a local server: what it looks up, what it holds, what it refuses."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bake.lock.check import lock_path
from bake.lock.command import Options, Report, run
from bake.lock.document import Lock, LockedFile, read_lock, write_lock
from bake.lock.web import TOKEN_VARIABLE
from qtrade.errors import BadInput, NotFound, TrustError
from qtrade.manifest import Recipe, load_manifest
from qtrade.redaction import redact
from qtrade.settings import Settings
from tests.fakes.examples import make_settings, recipe_fields, sha
from tests.fakes.locks import make_lock
from tests.fakes.reporter import RecordingReporter
from tests.fakes.tiny import spoil
from tests.fakes.upstream_server import TOKEN, Upstream, serve_upstream

pytestmark = pytest.mark.integration

ONE, TWO = b"one" * 1000, b"two" * 1000
REPOSITORY = "owner/client"


class Project:
    """A project whose recipe `demo` has a file and a private release, both of a local server, and a lock of nothing else."""

    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self.settings, self.upstream, self.reporter = settings, upstream, RecordingReporter()
        self.path = settings.project / "manifests/images/demo.yaml"
        part = {"kind": "url", "url": f"{upstream.url}/{{version}}/part", "version": "1"}
        client = {"kind": "github", "repository": REPOSITORY, "asset": "client", "version": "1", "private": True}
        self.write({"part": part, "client": {**client, "api": upstream.url}})
        upstream.files |= {"/1/part": ONE, "/2/part": TWO}
        upstream.add_release(REPOSITORY, "v1", {"client": ONE}, private=True)
        components = {"components": {}, "wants": {}}
        lock = make_lock(settings, self.recipe, base=(), tools=(), **components)
        write_lock(lock.model_copy(update={"wants": self.package_wants()}), self.lock_file)

    def write(self, components: dict[str, Any]) -> None:
        layer = {"role": "app", "vars": {"part_version": "1"}, "components": list(components)}
        self.path.write_text(yaml.safe_dump({**recipe_fields(), "components": components, "layers": [layer]}))

    def package_wants(self) -> dict[str, str]:
        wants = make_lock(self.settings, self.recipe).wants
        return {part: digest for part, digest in wants.items() if not part.startswith("component")}

    @property
    def recipe(self) -> Recipe:
        return load_manifest(Recipe, self.path)

    @property
    def lock_file(self) -> Path:
        return lock_path(self.settings, self.recipe)

    @property
    def lock(self) -> Lock:
        lock = read_lock(self.lock_file)
        assert lock is not None
        return lock

    def file(self, name: str) -> LockedFile:
        locked = self.lock.components[name]
        assert isinstance(locked, LockedFile)
        return locked

    def cached(self, name: str) -> Path:
        return self.settings.cache_dir / "blobs" / self.file(name).sha256 / self.file(name).file

    def run(self, *names: str, **options: Any) -> Report:
        accepted = frozenset(options.pop("accepted", ()))
        return run(self.settings, "demo", Options(names=names, accepted=accepted, **options), self.reporter)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Project]:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with serve_upstream() as upstream:
        project = Project(make_settings(tmp_path), upstream)
        project.run()
        upstream.seen.clear()
        yield project


def test_a_first_lock_has_every_component_and_no_token(project) -> None:
    assert {name: item.sha256 for name, item in project.lock.components.items()} == {
        name: hashlib.sha256(ONE).hexdigest() for name in ("part", "client")
    }
    assert project.cached("client").read_bytes() == ONE
    assert TOKEN not in project.lock_file.read_text()
    assert not any(TOKEN in line for line in project.reporter.lines)


def test_what_is_locked_is_not_asked_for_again(project) -> None:
    before = project.lock_file.read_text()
    report = project.run()
    assert (report.done, report.changes, project.upstream.seen) == ("unchanged", (), [])
    assert project.lock_file.read_text() == before
    assert project.run(check=True).done == "checked"


def test_a_new_version_is_written_into_the_recipe_and_locked(project) -> None:
    report = project.run("part=2", update=True)
    assert [str(change) for change in report.changes] == ["  component: part 1 -> 2"]
    assert project.recipe.components["part"].version == "2"
    assert project.file("part").sha256 == hashlib.sha256(TWO).hexdigest()
    assert project.upstream.paths() == ["/2/part"]
    assert (
        "layers.app.vars.part_version in demo.yaml still says 1: change it too if it means part"
        in project.reporter.lines
    )
    assert json.loads(json.dumps(report.document()))["changes"] == [
        {"part": "component", "name": "part", "kind": "version", "old": "1", "new": "2"}
    ]


def test_a_dry_run_writes_neither_recipe_nor_lock(project) -> None:
    before = project.path.read_text(), project.lock_file.read_text()
    report = project.run("part=2", update=True, dry_run=True)
    assert (report.done, len(report.changes)) == ("would lock", 1)
    assert (project.path.read_text(), project.lock_file.read_text()) == before


def test_a_version_that_upstream_has_not_leaves_recipe_and_lock_as_they_were(project) -> None:
    before = project.path.read_text(), project.lock_file.read_text()
    with pytest.raises(NotFound, match=r"there is no http://.*/3/part"):
        project.run("part=3", update=True)
    assert (project.path.read_text(), project.lock_file.read_text()) == before


def test_other_bytes_at_the_same_version_are_an_alarm_until_they_are_accepted(project) -> None:
    project.upstream.files["/1/part"] = TWO
    before = project.lock_file.read_text()
    with pytest.raises(TrustError, match="other bytes") as caught:
        project.run("part", update=True)
    assert "--accept-changed part" in caught.value.resolution
    assert project.lock_file.read_text() == before
    report = project.run("part", update=True, accepted={"part"})
    assert [change.kind for change in report.changes] == ["digest"]
    assert project.file("part").sha256 == hashlib.sha256(TWO).hexdigest()


def test_a_recipe_that_was_edited_is_named_and_mended_by_the_next_lock(project) -> None:
    project.path.write_text(project.path.read_text().replace("version: '1'", "version: '2'", 1))
    (changed,) = [name for name, item in project.recipe.components.items() if item.version == "2"]
    project.upstream.add_release(REPOSITORY, "v2", {"client": TWO}, private=True)
    with pytest.raises(BadInput) as caught:
        project.run(check=True)
    assert caught.value.details == f"  component {changed}: changed in the recipe"
    assert [change.name for change in project.run().changes] == [changed]
    project.run(check=True)


def test_a_fetch_brings_back_what_the_cache_has_lost(project) -> None:
    for name in ("part", "client"):
        project.cached(name).unlink()
    assert project.run(fetch=True).done == "fetched"
    assert {project.cached(name).read_bytes() for name in ("part", "client")} == {ONE}
    assert project.upstream.tokens() == [f"/repos/{REPOSITORY}/releases/assets/1"]


def test_a_fetch_notices_and_names_a_changed_byte(project) -> None:
    spoil(project.cached("part"))
    with pytest.raises(TrustError, match="component part 1: its file in the cache was changed") as caught:
        project.run(fetch=True)
    found = hashlib.sha256(project.cached("part").read_bytes()).hexdigest()
    for word in (str(project.cached("part")), hashlib.sha256(ONE).hexdigest(), found):
        assert word in caught.value.details
    assert "qtrade lock --fetch" in caught.value.resolution
    project.cached("part").unlink()
    project.run(fetch=True)


def test_a_component_that_leaves_the_recipe_leaves_the_lock(project) -> None:
    project.write({"part": {"kind": "url", "url": f"{project.upstream.url}/{{version}}/part", "version": "1"}})
    assert [str(change) for change in project.run().changes] == ["- component: client 1"]
    assert set(project.lock.components) == {"part"}


def test_another_collection_than_the_locked_one_is_named(project) -> None:
    name = "collection community.general"
    lock = project.lock
    write_lock(lock.model_copy(update={"wants": {**lock.wants, name: sha("another")}}), project.lock_file)
    with pytest.raises(BadInput) as caught:
        project.run(check=True)
    assert name in caught.value.details


def test_the_token_is_hidden_in_everything_that_is_said(project) -> None:
    assert redact(f"{TOKEN}") == "***"
