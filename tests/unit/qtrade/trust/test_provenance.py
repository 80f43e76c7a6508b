"""Provenance names the source, the components and the layers of an image."""

import subprocess

import pytest

from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.provenance import SourceState, provenance, read_source, sign_provenance
from qtrade.trust.statements import verify_statements
from tests.fakes.examples import make_image, make_settings, sha

pytestmark = pytest.mark.unit


LOCK = {"name": "demo.lock.json", "digest": {"sha256": sha("lock")}}


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()

    def git(*args: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(folder), *identity, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (folder / "file").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    return folder, git("rev-parse", "HEAD")


def test_the_commit_is_named_and_changes_are_told(checkout) -> None:
    folder, commit = checkout
    assert read_source(folder) == SourceState(commit, dirty=False)
    (folder / "new").write_text("x")
    assert read_source(folder) == SourceState(commit, dirty=True)
    (folder / "new").unlink()
    (folder / "file").write_text("2")
    assert read_source(folder) == SourceState(commit, dirty=True)


def test_a_project_outside_of_git_is_dirty(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_source(tmp_path) == SourceState("", dirty=True)


def test_provenance_is_slsa_v1_and_counts_when_the_build_key_signed_it(tmp_path) -> None:
    image, keyring = make_image(), ensure_keyring(make_settings(tmp_path))
    predicate = provenance(image, SourceState("c" * 40, dirty=True), started=0, finished=60, resolved=[LOCK])
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    assert definition["externalParameters"] == {"recipe": "demo", "version": "0.1.0"}
    assert definition["resolvedDependencies"] == [
        {"name": "agent", "digest": {"sha256": sha("agent")}, "annotations": {"version": "1", "standin": True}},
        {"name": "source", "digest": {"gitCommit": "c" * 40}, "annotations": {"dirty": True}},
        LOCK,
    ]
    assert run["metadata"] == {"startedOn": "1970-01-01T00:00:00Z", "finishedOn": "1970-01-01T00:01:00Z"}
    assert [item["digest"]["sha256"] for item in run["byproducts"]] == [layer.digest for layer in image.layers]
    envelope = sign_provenance(image, predicate, keyring.signer("build"))
    assert verify_statements(image.id, [envelope], keyring.trust).provenance == (predicate,)
