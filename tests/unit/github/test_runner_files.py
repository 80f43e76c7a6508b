"""What a step gives to later ones: files of the runner, secrets on tmpfs, the page of the run, the releases' notes."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from qtrade.errors import BadInput, NotFound, Refused, UsageError
from qtrade.github import runner, tmpfs
from qtrade.github.releases import check_tag, release_notes
from qtrade.github.summary import plain, read_outcomes, render_summary
from qtrade.redaction import redact
from tests.fakes.cli import Cli
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.unit

PASSWORD = "correct-*horse*_battery_[staple]"


@pytest.mark.parametrize(
    ("name", "value"), [("a", "x\ny=z"), ("a", "x\r"), ("a", "\x00"), ("a=b", "x"), ("", "x"), ("a b", "x")]
)
def test_nothing_that_could_write_another_name_reaches_later_steps(tmp_path, monkeypatch, name, value) -> None:
    path = tmp_path / "env"
    monkeypatch.setenv("GITHUB_ENV", str(path))
    monkeypatch.setenv("GITHUB_OUTPUT", str(path))
    for write in (runner.write_environment, runner.write_outputs):
        with pytest.raises(BadInput):
            write({"good": "1", name: value})
    assert not path.exists()


@pytest.fixture
def key(tmp_path) -> str:
    path = tmp_path / "made"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.read_text()


def test_secrets_lie_in_memory_for_their_owner_only_and_go(tmp_path, monkeypatch, capsys, key) -> None:
    told = tmp_path / "env"
    monkeypatch.setenv("GITHUB_ENV", str(told))
    given = {
        "SSH_KEY": key.strip(),
        "VAULT_PASSWORD": PASSWORD,
        "JOB_KEY": "a private key",
        "TRUST_SET": "{}",
        "BUILD_KEY": "",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"QTRADE_SECRET_{name}", value)
    cli = Cli(monkeypatch, capsys)
    code, out, err = cli("workflow", "secrets", "put")
    assert (code, out, err) == (0, "4 secrets are in memory: JOB_KEY, SSH_KEY, TRUST_SET, VAULT_PASSWORD\n", "")
    variables = dict(line.split("=", 1) for line in told.read_text().splitlines())
    folder = Path(variables["QTRADE_SECRETS_DIR"])
    assert variables == {
        "QTRADE_SECRETS_DIR": str(folder),
        "QTRADE_DEPLOY_IDENTITY": str(folder / "ssh-key"),
        "QTRADE_SSH_IDENTITY": str(folder / "ssh-key"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(folder / "vault-password"),
        "QTRADE_KEYS_DIR": str(folder / "keys"),
    }
    assert tmpfs.filesystem_of(folder) == "tmpfs"
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    files = ("ssh-key", "ssh-key.pub", "vault-password", "keys/job.key", "keys/trust.json")
    assert modes == {".": 0o700, "keys": 0o700, **dict.fromkeys(files, 0o600)}
    assert (folder / "ssh-key").read_text() == key  # with the last line break that was lost
    assert (folder / "vault-password").read_text() == PASSWORD
    assert redact(f"x {PASSWORD} y") == "x *** y"
    monkeypatch.setenv("QTRADE_SECRETS_DIR", str(folder))
    assert cli("workflow", "secrets", "remove")[1] == "secrets are removed\n"
    assert not folder.exists()
    assert cli("workflow", "secrets", "remove")[1] == "there are no secrets to remove\n"


def test_a_key_that_is_none_fails_and_what_was_written_is_still_removed(tmp_path, monkeypatch, capsys) -> None:
    told = tmp_path / "env"
    monkeypatch.setenv("GITHUB_ENV", str(told))
    monkeypatch.setenv("QTRADE_SECRET_SSH_KEY", "no key at all, but secret")
    cli = Cli(monkeypatch, capsys)
    code, out, err = cli("workflow", "secrets", "put")
    assert code == 5
    assert "but secret" not in out + err
    name, _, folder = told.read_text().strip().partition("=")
    monkeypatch.setenv(name, folder)
    assert cli("workflow", "secrets", "remove")[0] == 0
    assert not Path(folder).exists()


def test_secrets_are_never_put_on_a_disk(tmp_path) -> None:
    if tmpfs.filesystem_of(tmp_path) in ("tmpfs", "ramfs"):
        pytest.skip("the folder of the tests is in memory")
    with pytest.raises(Refused, match="not tmpfs"):
        tmpfs.make_folder(tmp_path)


@pytest.mark.parametrize(
    "place", ["/etc", "/dev/shm", "/dev/shm/other", "/dev/shm/qtrade-x/../../etc", "/home/qtrade-x"]
)
def test_no_other_folder_is_removed(place) -> None:
    with pytest.raises(Refused):
        tmpfs.remove_folder(Path(place))


def test_a_secret_that_nobody_knows_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("QTRADE_SECRET_OTHER", "x")
    with pytest.raises(BadInput, match="QTRADE_SECRET_OTHER is unknown"):
        tmpfs.given_secrets(os.environ)


def test_the_page_tells_of_the_run_and_never_a_secret(tmp_path, monkeypatch, capsys) -> None:
    settings, page = make_settings(tmp_path), tmp_path / "summary"
    folder = settings.state_dir / "flashes/rpc-1"
    folder.mkdir(parents=True)
    lines = [{"at": at, "state": state, "evidence": {}} for at, state in ((1000.0, "PLANNED"), (1061.2, "COMMITTED"))]
    (folder / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    steps = {"flash": {"outcome": "failure"}, "verify": {"outcome": "skipped"}, "pin": {"outcome": "success"}}
    variables = {
        "QTRADE_PROJECT": settings.project,
        "QTRADE_STATE_DIR": settings.state_dir,
        "GITHUB_STEP_SUMMARY": page,
        "QTRADE_STEPS": json.dumps(steps),
        "QTRADE_SECRET_VAULT_PASSWORD": PASSWORD,
        "QTRADE_HOST": "rpc-1",
        "QTRADE_PIN": f"x=<script>{PASSWORD}",
        "GITHUB_ACTOR": "octo|cat",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    code, out, _ = Cli(monkeypatch, capsys)("workflow", "summary", "--title", "Host")
    assert code == 0
    assert PASSWORD not in page.read_text()
    assert PASSWORD not in out
    assert page.read_text().splitlines() == [
        "## Host",
        "",
        "| | |",
        "|---|---|",
        "| host | rpc-1 |",
        "| pinned | x=\\<script\\>\\*\\*\\* |",
        "| by | octo\\|cat |",
        "",
        "| step | |",
        "|---|---|",
        "| flash | ✗ failure |",
        "| verify | - skipped |",
        "| pin | ✓ success |",
        "",
        "### Flash",
        "",
        "- PLANNED after 0 s",
        "- COMMITTED after 61 s",
    ]


def test_a_page_has_no_empty_parts() -> None:
    assert render_summary("x", {"a": ""}, {}, {"b": ()}) == "## x\n"
    assert plain("a\n| b") == "a \\| b"


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', '{"a": {}}'])
def test_steps_that_are_none_are_refused(text) -> None:
    if text == "[]":
        text = '["a"]'
    with pytest.raises(BadInput, match="no JSON of GitHub's"):
        read_outcomes(text)


@pytest.mark.parametrize(
    ("needs", "code", "told"),
    [
        ({"a": {"result": "success"}}, 0, "1 jobs have succeeded"),
        ({"a": {"result": "success"}, "b": {"result": "skipped"}}, 7, "b skipped"),
        ({"a": {"result": "failure"}}, 7, "a failure"),
        ({}, 7, "no job is named"),
    ],
)
def test_the_required_job_asks_for_all_others(monkeypatch, capsys, needs, code, told) -> None:
    monkeypatch.setenv("QTRADE_NEEDS", json.dumps(needs))
    found, out, err = Cli(monkeypatch, capsys)("workflow", "require")
    assert found == code
    assert told in out + err


def test_outside_of_a_workflow_the_api_says_what_it_lacks(monkeypatch) -> None:
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    with pytest.raises(UsageError, match="GITHUB_TOKEN is not set"):
        runner.read_variable("GITHUB_TOKEN", "the token of the workflow")


def test_a_release_is_of_its_tag_and_has_the_changelogs_words() -> None:
    changelog = "# Changelog\n\n## Unreleased\n- new\n\n## 0.2.0 (2026-11-01)\n- two\n- lines\n\n## [0.1.0]\n- first\n"
    assert release_notes(changelog, "0.2.0") == "- two\n- lines"
    assert release_notes(changelog, "0.1.0") == "- first"
    with pytest.raises(NotFound, match=r"says nothing of 0\.2"):
        release_notes(changelog, "0.2")
    check_tag("v0.2.0", "0.2.0")
    with pytest.raises(BadInput, match=r"the tag is 'v0\.3\.0', the package is 0\.2\.0"):
        check_tag("v0.3.0", "0.2.0")
