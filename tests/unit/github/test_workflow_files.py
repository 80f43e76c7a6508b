"""What holds of every workflow, as files: permissions, pins, plain commands, environments, concurrency, secrets that are removed."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from typer.main import get_command

from bake.roles import read_role
from qtrade.cli import app
from qtrade.github.inputs import ROLES, TOGGLES, UNCHANGED, parse_layer
from qtrade.github.table import BEGIN, END, put_table, read_workflow, render_table
from qtrade.settings import load_settings

pytestmark = pytest.mark.unit

PROJECT = load_settings().project
FILES = sorted((PROJECT / ".github/workflows").glob("*.yml"))
SEVEN = dict(zip(ROLES, (path for path in FILES if path.name[0].isdigit()), strict=True))
DOCUMENTS = {path.name: read_workflow(path) for path in FILES}
# Of the runner itself.
RUNNERS_OWN = {"GITHUB_REF_NAME"}
PINS = {
    "actions/checkout",
    "actions/cache",
    "actions/upload-artifact",
    "actions/download-artifact",
    "actions/attest",
    "aws-actions/configure-aws-credentials",
}
# Commands that log in to a host, or reach for its BMC.
ON_HOSTS = {"flash", "push", "rollback", "verify"}


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for file, document in DOCUMENTS.items():
        for name, job in document["jobs"].items():
            yield f"{file}:{name}", job


def steps() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for where, job in jobs():
        for step in job.get("steps", ()):
            yield f"{where}:{step['id']}", job, step


JOBS = list(jobs())
RUNS = [(where, job, step) for where, job, step in steps() if "run" in step]
CALLED = {path.name for path in FILES} - {path.name for path in SEVEN.values()}


def test_all_the_workflows_are_here() -> None:
    seven = ["1-bare-metal", "2-ufw-solana", "3-datadog", "4-geyser", "5-postgres", "6-agave", "7-qtrade-client"]
    assert [path.stem for path in SEVEN.values()] == seven
    others = {"nightly", "flash", "push", "rollback", "rollout", "drift", "ci", "release", "promote", "layer"}
    assert {name.removesuffix(".yml") for name in CALLED} == others


@pytest.mark.parametrize("file", DOCUMENTS)
def test_a_workflow_has_no_permissions_but_its_jobs(file) -> None:
    document = DOCUMENTS[file]
    assert document["permissions"] == {}
    assert "pull_request_target" not in document["on"]
    assert "workflow_run" not in document["on"]
    if file != "layer.yml":
        assert document["concurrency"]["group"]


@pytest.mark.parametrize(("where", "job"), JOBS, ids=[where for where, _ in JOBS])
def test_a_job_says_its_permissions_and_its_time(where, job) -> None:
    assert job["permissions"]
    assert "write-all" not in job["permissions"]
    if "uses" in job:
        assert job["uses"] == "./.github/workflows/layer.yml"
        return
    assert 0 < job["timeout-minutes"] <= 360
    ids = [step["id"] for step in job["steps"]]
    assert len(set(ids)) == len(ids)
    assert job["steps"][0]["uses"].startswith("actions/checkout@")
    assert job["steps"][0]["with"] == {"persist-credentials": False}


def test_the_table_of_the_page_is_that_of_the_files() -> None:
    page = (PROJECT / "docs/workflows.md").read_text()
    assert BEGIN in page
    assert END in page
    assert put_table(page, render_table(PROJECT / ".github/workflows")) == page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_of_others_are_pinned_by_their_commit_with_the_version_beside_it(path) -> None:
    for line in path.read_text().splitlines():
        if "uses:" in line and "./" not in line:
            found = re.fullmatch(r" +uses: ([\w-]+/[\w-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line)
            assert found, line
            assert found[1] in PINS


def test_an_action_has_one_commit_everywhere() -> None:
    used = {step["uses"] for _, _, step in steps() if "uses" in step}
    assert {one.partition("@")[0] for one in used} == PINS
    assert len(used) == len(PINS)


@cache
def qtrade_command() -> Any:
    return get_command(app)


def words_of(step: dict[str, Any]) -> list[str]:
    return shlex.split(step["run"])


@pytest.mark.parametrize(("where", "job", "step"), RUNS, ids=[where for where, _, _ in RUNS])
def test_a_step_is_one_make_target_or_one_command_of_qtrade(where, job, step) -> None:
    text = step["run"]
    assert "\n" not in text
    assert "${{" not in text
    # Text in double quotes may hold variables, and that is all that a shell does here.
    word = r'(?:[\w./=@-]+|"(?:[\w ,.]|\$QTRADE_[A-Z_]+|\$GITHUB_REF_NAME)*")'
    programs = r"(?:make(?: [a-z][a-z0-9-]*)+|(?:sudo -E )?\.venv/bin/qtrade(?: " + word + ")+)"
    assert re.fullmatch(programs, text), text
    known = {*step.get("env", {}), *job.get("env", {}), *RUNNERS_OWN}
    assert set(re.findall(r"\$(\w+)", text)) <= known


@pytest.mark.parametrize(("where", "job", "step"), RUNS, ids=[where for where, _, _ in RUNS])
def test_a_step_runs_what_there_is(where, job, step) -> None:
    words = [word for word in words_of(step) if word not in ("sudo", "-E")]
    if words[0] == "make":
        targets = re.findall(r"(?m)^([a-z][a-z0-9-]*):", (PROJECT / "Makefile").read_text())
        assert set(words[1:]) <= set(targets)
        return
    command, rest = qtrade_command(), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options


SECRET_JOBS = [(where, job) for where, job in JOBS if "secrets." in str(job.get("steps", ()))]


@pytest.mark.parametrize(("where", "job"), SECRET_JOBS, ids=[where for where, _ in SECRET_JOBS])
def test_secrets_are_an_environments_lie_on_tmpfs_and_go(where, job) -> None:
    assert job["environment"]
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    by_id = {step["id"]: step for step in job["steps"]}
    assert by_id["secrets"]["run"].endswith("qtrade workflow secrets put")
    last = job["steps"][-1]
    assert (last["if"], last["run"].rpartition("qtrade ")[2]) == ("always()", "workflow secrets remove")
    summary = job["steps"][-2]
    assert (summary["id"], summary["if"]) == ("summary", "always()")
    for name, step in by_id.items():
        if "secrets." in str(step.get("env", "")):
            assert name in ("secrets", "pin", "lock")  # to qtrade itself, and to no other program


HOST_JOBS = [(where, job) for where, job in JOBS if where.rpartition(":")[2] == "host"]


@pytest.mark.parametrize(("where", "job"), HOST_JOBS, ids=[where for where, _ in HOST_JOBS])
def test_a_host_is_alone_protected_and_tried_before_anything(where, job) -> None:
    assert job["environment"] == "${{ needs.check.outputs.environment }}"
    assert job["concurrency"]["group"].startswith("host-${{ needs.check.outputs.host")
    assert job["concurrency"]["cancel-in-progress"] is False
    commands = [words_of(step)[3:] for step in job["steps"] if "run" in step and "qtrade" in step["run"]]
    first_on_host = next(index for index, words in enumerate(commands) if words[0] in ON_HOSTS)
    assert commands.index(["hosts", "test", "--host", "$QTRADE_HOST"]) < first_on_host
    last_on_host = [words for words in commands if words[0] in ON_HOSTS][-1]
    assert last_on_host == ["verify", "--host", "$QTRADE_HOST", "--require", "monitoring"]


@pytest.mark.parametrize("role", ROLES)
def test_the_seven_call_one_workflow_with_the_inputs_that_qtrade_takes(role) -> None:
    document = read_workflow(SEVEN[role])
    (job,) = document["jobs"].values()
    assert job["with"] == {"layer": role, "inputs": "${{ toJSON(inputs) }}"}
    assert job["secrets"] == {
        name: f"${{{{ secrets.{name} }}}}" for name in DOCUMENTS["layer.yml"]["on"]["workflow_call"]["secrets"]
    }
    inputs = document["on"]["workflow_dispatch"]["inputs"]
    assert inputs["host"]["required"] is True
    assert {"version", "image_version"} <= set(inputs)
    assert set(TOGGLES[role]) == {name for name, fields in inputs.items() if fields["type"] == "choice"}
    plain = {name: "1.0" for name, fields in inputs.items() if fields["type"] == "string"}
    assert parse_layer(role, json.dumps({**plain, **dict.fromkeys(TOGGLES[role], UNCHANGED)})).toggles == {}
    arguments = read_role(load_settings(), role).entry.options
    for name in TOGGLES[role]:
        argument = arguments[f"{role}_{name}"]
        values = ["on", "off"] if argument.type == "bool" else list(argument.choices)
        assert inputs[name]["options"] == [UNCHANGED, *values]


def test_what_starts_by_itself_works_on_the_main_branch_only() -> None:
    by_time = {file for file, document in DOCUMENTS.items() if "schedule" in document["on"]}
    assert by_time == {"nightly.yml", "drift.yml", "ci.yml"}
    assert DOCUMENTS["ci.yml"]["on"]["push"] == {"branches": ["main"]}
    assert DOCUMENTS["release.yml"]["on"] == {"push": {"tags": ["v*"]}}


def test_tests_of_pull_requests_get_neither_secrets_nor_tokens_that_write() -> None:
    for job in DOCUMENTS["ci.yml"]["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert "secrets." not in str(job)


def test_the_page_names_each_secret_and_variable() -> None:
    page = (PROJECT / "docs/workflows.md").read_text()
    text = "".join(path.read_text() for path in FILES)
    for name in sorted(set(re.findall(r"(?:secrets|vars)\.(QTRADE_\w+)", text))):
        assert f"`{name}`" in page, name
