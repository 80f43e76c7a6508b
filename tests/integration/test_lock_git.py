"""Tags of Git repositories: the commit that they name, and no other."""

import os
import subprocess
from pathlib import Path

import pytest

from bake.lock.git import check_out, resolve_tag
from qtrade.errors import NotFound, ToolError, TrustError

pytestmark = pytest.mark.integration

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "tests"), ("EMAIL", "tests@localhost"), ("DATE", "2025-01-01T00:00:00Z"))
}


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with a light tag v1 and an annotated tag v2."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for number, options in (("1", ()), ("2", ("--annotate", "--message=two"))):
        (folder / "version").write_text(number)
        git(folder, "add", "version")
        git(folder, "commit", "--quiet", "--message", number)
        git(folder, "tag", *options, f"v{number}")
    return folder


def git(folder: Path, *args: str) -> str:
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", "-C", folder, *args], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_a_tag_gives_its_commit_and_the_checkout_has_it(repository, tmp_path, tag) -> None:
    commit = git(repository, "rev-parse", f"{tag}^{{commit}}")
    assert resolve_tag("part", str(repository), tag, None) == commit
    assert resolve_tag("part", str(repository), tag, commit) == commit
    check_out("part", str(repository), tag, commit, tmp_path / "source")
    assert (tmp_path / "source/version").read_text() == tag.removeprefix("v")
    assert git(tmp_path / "source", "rev-parse", "HEAD") == commit


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_a_tag_that_was_moved_is_refused(repository, tmp_path, tag) -> None:
    before = git(repository, "rev-parse", f"{tag}^{{commit}}")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "3")
    git(repository, "tag", "--force", tag)
    after = git(repository, "rev-parse", f"{tag}^{{commit}}")
    assert after != before
    with pytest.raises(TrustError, match=f"the tag {tag} of .* was moved") as caught:
        resolve_tag("part", str(repository), tag, before)
    assert before in caught.value.details
    assert after in caught.value.details
    with pytest.raises(TrustError, match="another commit than the lock's"):
        check_out("part", str(repository), tag, before, tmp_path / "source")
    assert not (tmp_path / "source/version").exists()


def test_a_missing_tag_and_a_missing_repository_are_errors(repository, tmp_path) -> None:
    with pytest.raises(NotFound, match="has no tag v9"):
        resolve_tag("part", str(repository), "v9", None)
    with pytest.raises(ToolError):
        resolve_tag("part", str(tmp_path / "ghost"), "v1", None)
