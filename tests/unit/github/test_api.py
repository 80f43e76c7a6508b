"""Issues, pull requests and releases, against a server with GitHub's shapes and permissions."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qtrade.errors import BadInput, ToolError
from qtrade.github.api import Answered, GitHub
from qtrade.github.issues import Told, tell_failure, tell_success
from qtrade.github.proposal import Proposal, changed_files, difference, file_before, open_pins, propose
from qtrade.github.releases import publish_release
from qtrade.redaction import redact
from tests.fakes.cli import Cli
from tests.fakes.github_server import REPOSITORY, GitHubState, serve_github

pytestmark = pytest.mark.unit

PROPOSES = {"contents": "write", "pull-requests": "write"}


@pytest.fixture
def state() -> Iterator[GitHubState]:
    state = GitHubState()
    with serve_github(state):
        yield state


def open_api(state: GitHubState, **permissions: str) -> GitHub:
    return GitHub(
        state.url, REPOSITORY, state.new_token({name.replace("_", "-"): level for name, level in permissions.items()})
    )


@pytest.fixture
def project(tmp_path, state) -> Path:
    """A repository with one commit, which GitHub knows."""
    files = {"manifests/images/lab.yaml": "version: 1\n", "manifests/images/lab.lock.json": "{}\n", "README.md": "x\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "x")):
        named = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", tmp_path, *named, *words], check=True)
    state.commits["base"] = {"tree": {"sha": "tree-of-base"}}
    return tmp_path


def test_what_a_run_changed_becomes_a_pull_request_and_then_the_same_one_again(project, state) -> None:
    (project / "manifests/images/lab.yaml").write_text("version: 2\n")
    (project / "manifests/releases/lab").mkdir(parents=True)
    (project / "manifests/releases/lab/1.0.json").write_text("{}\n")
    (project / "README.md").write_text("not proposed\n")
    paths = changed_files(project)
    assert paths == ("manifests/images/lab.yaml", "manifests/releases/lab/1.0.json")
    wanted = Proposal("qtrade/pin-agave-lab", "Pin agave=2", "Why", "base", "main")
    with open_api(state, **PROPOSES) as api:
        first = propose(api, project, wanted, paths)
        (project / "manifests/images/lab.yaml").write_text("version: 3\n")
        second = propose(api, project, wanted, paths)
        pins = open_pins(api)
    assert (first.number, first.is_new, second.number, second.is_new) == (1, True, 1, False)
    assert state.files_of("qtrade/pin-agave-lab") == {
        "manifests/images/lab.yaml": b"version: 3\n",
        "manifests/releases/lab/1.0.json": b"{}\n",
    }
    commit = state.commits[state.refs["refs/heads/qtrade/pin-agave-lab"]]
    assert (commit["message"], commit["parents"]) == ("Pin agave=2\n\nWhy", ["base"])
    (pull,) = state.pulls
    assert (pull["title"], pull["body"], pull["base"]["ref"]) == ("Pin agave=2", "Why", "main")
    assert [one.title for one in pins] == ["Pin agave=2"]


def test_before_and_difference_are_of_the_checkouts_commit(project) -> None:
    (project / "manifests/images/lab.yaml").write_text("version: 2\n")
    assert file_before(project, "manifests/images/lab.yaml") == "version: 1\n"
    assert file_before(project, "manifests/images/other.yaml") is None
    assert difference(project).splitlines()[-2:] == ["-version: 1", "+version: 2"]


def test_a_run_deletes_no_manifest(project) -> None:
    (project / "manifests/images/lab.yaml").unlink()
    with pytest.raises(BadInput, match=r"lab\.yaml is gone"):
        changed_files(project)


@pytest.mark.parametrize("missing", ["contents", "pull-requests"])
def test_a_token_that_may_not_is_told_what_it_needs(project, state, missing) -> None:
    (project / "manifests/images/lab.yaml").write_text("version: 2\n")
    with open_api(state, **{**PROPOSES, missing: "read"}) as api, pytest.raises(Answered) as raised:
        propose(api, project, Proposal("qtrade/pin-a-lab", "t", "b", "base", "main"), changed_files(project))
    assert (raised.value.status, raised.value.details) == (403, "Resource not accessible by integration")
    assert "docs/workflows.md" in raised.value.resolution
    assert state.pulls == []


def test_a_failure_opens_an_issue_goes_on_in_it_and_a_success_closes_it(state) -> None:
    with open_api(state, issues="write") as api:
        assert tell_success(api, "Nightly fails", "well") == Told("nothing")
        opened = tell_failure(api, "Nightly fails", "one")
        assert (opened.done, opened.number) == ("opened", 1)
        assert tell_failure(api, "Other", "x").number == 2
        assert tell_failure(api, "Nightly fails", "two").done == "commented"
        assert tell_success(api, "Nightly fails", "well").done == "closed"
        assert tell_failure(api, "Nightly fails", "again").number == 3
    assert [(one["title"], one["state"], one["body"]) for one in state.issues] == [
        ("Nightly fails", "closed", "one"),
        ("Other", "open", "x"),
        ("Nightly fails", "open", "again"),
    ]
    assert state.issues[0]["labels"] == [{"name": "qtrade"}]
    assert state.comments == [(1, "two"), (1, "well")]


def test_a_pull_request_of_the_same_title_is_no_issue(state) -> None:
    url = "https://github.example.org/x"
    state.issues.append({"number": 1, "title": "t", "state": "open", "html_url": url, "pull_request": {"url": url}})
    with open_api(state, issues="write") as api:
        assert tell_failure(api, "t", "b").number == 2


def test_a_release_is_published_with_its_files(state, tmp_path) -> None:
    file = tmp_path / "qtrade-0.1.0-py3-none-any.whl"
    file.write_bytes(b"wheel")
    with open_api(state, contents="write") as api:
        url = publish_release(api, "v0.1.0", "- first", [file])
    assert url == f"https://github.example.org/{REPOSITORY}/releases/tag/v0.1.0"
    assert (state.releases[0]["draft"], state.releases[0]["body"]) == (False, "- first")
    assert state.assets == {file.name: b"wheel"}


def test_the_token_is_never_shown(state) -> None:
    token = "ghs_thisisthetokenofajob"

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, json={"message": f"we saw {request.headers['Authorization']}"})

    api = GitHub("https://api.example.org", REPOSITORY, token, transport=httpx.MockTransport(answer))
    with api, pytest.raises(Answered) as raised:
        api.get("issues")
    assert token not in raised.value.render()
    assert redact(token) == "***"


def test_a_server_that_does_not_answer_is_an_error_with_a_cure(state) -> None:
    del state
    with (
        GitHub("http://127.0.0.1:9", REPOSITORY, "ghs_x1234567") as api,
        pytest.raises(ToolError, match="cannot be reached"),
    ):
        api.get("issues")


def test_the_commands_of_steps(project, state, monkeypatch, capsys) -> None:
    for folder in ("ansible", "packer"):
        (project / folder).mkdir()
    variables = {
        "QTRADE_PROJECT": project,
        "GITHUB_API_URL": state.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_SERVER_URL": "https://github.example.org",
        "GITHUB_RUN_ID": "4711",
        "GITHUB_SHA": "base",
        "GITHUB_REF_NAME": "main",
        "GITHUB_OUTPUT": project / "output",
        "GITHUB_TOKEN": state.new_token({**PROPOSES, "issues": "write"}),
        "QTRADE_NEEDS": '{"image": {"result": "failure", "outputs": {}}}',
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    cli, options = Cli(monkeypatch, capsys), ("--recipe", "lab", "--branch", "pin-agave", "--title", "Pin agave=2")
    assert cli("workflow", "propose", *options)[1] == "nothing changed: no pull request\n"
    (project / "manifests/images/lab.yaml").write_text("version: 2\n")
    (project / "manifests/images/lab.lock.json").unlink()
    subprocess.run(
        ["git", "-C", project, "update-index", "--assume-unchanged", "manifests/images/lab.lock.json"], check=True
    )
    code, out, err = cli("workflow", "propose", *options)
    assert (code, out, err) == (
        0,
        f"opened https://github.example.org/{REPOSITORY}/pull/1: manifests/images/lab.yaml\n",
        "",
    )
    assert (project / "output").read_text() == f"pull_request=1\nurl=https://github.example.org/{REPOSITORY}/pull/1\n"
    assert "+version: 2\n```" in state.pulls[0]["body"]
    run = f"https://github.example.org/{REPOSITORY}/actions/runs/4711"
    assert state.pulls[0]["body"].endswith(f"Made by {run}")
    assert cli("workflow", "issue", "--title", "Nightly fails")[1].startswith("opened https://")
    assert state.issues[0]["body"] == f"{run}\n\n- image: failure"
    assert cli("workflow", "issue", "--title", "Nightly fails", "--resolved")[1].startswith("closed https://")
