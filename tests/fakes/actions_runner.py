"""A runner of our workflows on this machine: jobs in order, `if`, `env`, outputs, the files of the runner; actions of others are stand-ins.

What is a stand-in and what was left out is on record in the run, so that a test says what it has shown.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtrade.github.table import read_workflow
from tests.fakes.actions_expressions import Functions, as_text, evaluate, fill, holds, standard_functions
from tests.fakes.github_server import GitHubState

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOWS = PROJECT / ".github/workflows"
_SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
# As root there is nothing to become; the rest is as sudo -E does it.
_SUDO = '#!/bin/bash\n[ "$1" = -E ] || { echo "sudo without -E" >&2; exit 2; }\nshift\nexec "$@"\n'


@dataclass
class StepRun:
    """A step that was looked at. `outcome` is success, failure or skipped; `how` is run, stand-in or left out."""

    id: str
    outcome: str
    how: str = "run"
    command: str = ""
    stdout: str = ""
    stderr: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class JobRun:
    """A job: its result, outputs and steps; of a job that calls a workflow, the jobs of that."""

    name: str
    result: str = "success"
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[StepRun] = field(default_factory=list)
    called: "dict[str, JobRun]" = field(default_factory=dict)
    environment: str = ""
    group: str = ""
    summary: str = ""

    def step(self, name: str) -> StepRun:
        return next(step for step in self.steps if step.id == name)

    def outcomes(self) -> dict[str, str]:
        return {step.id: step.outcome for step in self.steps}


@dataclass
class Runner:
    """The machine, and the repository that runs on it. `base` is a repository of `copy_tree`.

    `left_out` are steps (`job.step`) that count as done without being run.
    """

    folder: Path
    base: Path
    github: GitHubState
    api: str
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    event: dict[str, str] = field(default_factory=lambda: {"event_name": "workflow_dispatch", "ref_name": "main"})
    environment: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 600

    def __post_init__(self) -> None:
        self.repository = self.folder / "repository"
        _git(self.folder, "clone", "-q", "--shared", str(self.base), str(self.repository))
        programs = self.folder / "programs"
        programs.mkdir()
        (programs / "sudo").write_text(_SUDO)
        (programs / "sudo").chmod(0o755)

    def commit(self, message: str = "Change") -> str:
        """Commit what a test has written into the repository; returns the commit."""
        for words in (("add", "-A"), ("commit", "-q", "--allow-empty", "-m", message)):
            _git(self.repository, *words)
        sha = _git(self.repository, "rev-parse", "HEAD")
        self.github.commits[sha] = {"tree": {"sha": f"tree-of-{sha}"}}
        self.event["sha"] = sha
        return sha

    def run(self, file: str, inputs: dict[str, Any] | None = None) -> dict[str, JobRun]:
        """Run a workflow as its event would; inputs that are left out have their defaults."""
        self.commit()
        document = read_workflow(WORKFLOWS / file)
        given = _with_defaults(document, inputs) if inputs is not None else None
        return _Workflow(self, document, given, self.secrets).run()


def copy_tree(target: Path) -> Path:
    """Copy the project as it stands, without what git ignores, make a repository of it, and return it."""
    target.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = PROJECT / name
        if source.exists() or source.is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "Base")):
        _git(target, *words)
    return target


class _Workflow:
    """One run of one workflow: its jobs by name as they end."""

    def __init__(self, runner: Runner, document: dict[str, Any], inputs: Any, secrets: dict[str, str]) -> None:
        self.runner, self.document, self.inputs, self.secrets = runner, document, inputs, secrets
        self.done: dict[str, JobRun] = {}

    def run(self) -> dict[str, JobRun]:
        waiting = dict(self.document["jobs"])
        while waiting:
            name = next(one for one, job in waiting.items() if set(_list(job.get("needs"))) <= set(self.done))
            self.done[name] = self._job(name, waiting.pop(name))
        return self.done

    def contexts(self, job: dict[str, Any]) -> dict[str, Any]:
        needs = {name: self.done[name] for name in _list(job.get("needs"))}
        github = {
            **self.runner.event,
            "run_id": "4711",
            "repository": "example/fleet",
            "ref": "refs/heads/main",
            "token": "",
        }
        return {
            "inputs": self.inputs,
            "vars": self.runner.variables,
            "secrets": self.secrets,
            "github": github,
            "env": {},
            "needs": {name: {"result": one.result, "outputs": one.outputs} for name, one in needs.items()},
        }

    def _job(self, name: str, job: dict[str, Any]) -> JobRun:
        contexts = self.contexts(job)
        ancestors = self._ancestors(job)
        status = {
            "success": all(one.result == "success" for one in ancestors),
            "failure": any(one.result == "failure" for one in ancestors),
        }
        functions = standard_functions(status, "0" * 64)
        if not holds(job.get("if", "success()"), contexts, functions):
            return JobRun(name, "skipped")
        if "uses" in job:
            return self._call(name, job, contexts, functions)
        matrix = {key: evaluate(str(value)[3:-2], contexts, functions) for key, value in _matrix(job).items()}
        runs = [
            Job(self.runner, name, job, {**contexts, "matrix": values}, job.get("permissions", {})).run()
            for values in _combinations(matrix)
        ]
        if len(runs) == 1:
            return runs[0]
        merged = JobRun(name, "failure" if any(one.result == "failure" for one in runs) else "success")
        merged.called = {f"{name} {number}": one for number, one in enumerate(runs)}
        return merged

    def _ancestors(self, job: dict[str, Any]) -> list[JobRun]:
        found: dict[str, JobRun] = {}
        pending = _list(job.get("needs"))
        while pending:
            name = pending.pop()
            found[name] = self.done[name]
            pending += _list(self.document["jobs"][name].get("needs"))
        return list(found.values())

    def _call(self, name: str, job: dict[str, Any], contexts: dict[str, Any], functions: Functions) -> JobRun:
        document = read_workflow(PROJECT / job["uses"])
        declared = document["on"]["workflow_call"]
        inputs = {key: fill(value, contexts, functions) for key, value in job["with"].items()}
        secrets = {key: fill(value, contexts, functions) for key, value in job["secrets"].items()}
        assert set(inputs) == set(declared["inputs"])
        assert set(secrets) <= set(declared["secrets"])
        for one in document["jobs"].values():
            assert _within(one["permissions"], job["permissions"]), f"{name} does not give what {one['name']} asks for"
        called = _Workflow(self.runner, document, inputs, secrets).run()
        result = "failure" if any(one.result == "failure" for one in called.values()) else "success"
        return JobRun(name, result, called=called)


class Job:
    """One job on its own clean workspace, with a token that has the job's permissions and no other."""

    def __init__(
        self, runner: Runner, name: str, job: dict[str, Any], contexts: dict[str, Any], permissions: dict[str, str]
    ) -> None:
        self.runner, self.job = runner, job
        self.done = JobRun(name)
        self.workspace = runner.folder / "workspaces" / f"{name}-{len(list((runner.folder / 'workspaces').glob('*')))}"
        self.workspace.mkdir(parents=True)
        self.status = {"success": True, "failure": False}
        self.functions = standard_functions(self.status, "0" * 64)
        token = runner.github.new_token(permissions)
        self.contexts = {**contexts, "steps": {}, "github": {**contexts["github"], "token": token}}
        self.contexts["env"] = self._fill_all(job.get("env", {}))
        self.files = {
            kind: self.workspace.with_name(f"{self.workspace.name}.{kind}")
            for kind in ("OUTPUT", "ENV", "STEP_SUMMARY")
        }

    def run(self) -> JobRun:
        self.done.environment = fill(self.job.get("environment", ""), self.contexts, self.functions)
        self.done.group = fill(self.job.get("concurrency", {}).get("group", ""), self.contexts, self.functions)
        for step in self.job["steps"]:
            ran = self._step(step)
            self.done.steps.append(ran)
            self.contexts["steps"][ran.id] = {"outcome": ran.outcome, "conclusion": ran.outcome, "outputs": ran.outputs}
            if ran.outcome == "failure":
                self.status.update(success=False, failure=True)
        self.done.result = "failure" if self.status["failure"] else "success"
        outputs = self.job.get("outputs", {})
        self.done.outputs = {name: fill(value, self.contexts, self.functions) for name, value in outputs.items()}
        if self.files["STEP_SUMMARY"].exists():
            self.done.summary = self.files["STEP_SUMMARY"].read_text()
        return self.done

    def _step(self, step: dict[str, Any]) -> StepRun:
        name = step["id"]
        if not holds(step.get("if", "success()"), self.contexts, self.functions):
            return StepRun(name, "skipped")
        if f"{self.done.name}.{name}" in self.runner.left_out:
            return StepRun(name, "success", "left out", step.get("run", ""))
        if "uses" in step:
            options = self._fill_all(step.get("with", {}))
            STAND_INS[step["uses"].partition("@")[0]](self.runner, self.workspace, options)
            return StepRun(name, "success", "stand-in")
        return self._program(name, step)

    def _program(self, name: str, step: dict[str, Any]) -> StepRun:
        own = {**self.contexts["env"], **self._fill_all(step.get("env", {}))}
        for path in self.files.values():
            path.touch()
        self.files["OUTPUT"].write_text("")
        self.files["ENV"].write_text("")
        script = self.workspace.with_name(f"{self.workspace.name}.sh")
        script.write_text(step["run"])
        done = subprocess.run(
            [*_SHELL, script],
            cwd=self.workspace,
            env={**self._base_environment(), **own},
            capture_output=True,
            text=True,
            check=False,
            timeout=self.runner.timeout_s,
        )
        self.contexts["env"] |= _read_pairs(self.files["ENV"])
        outcome = "success" if done.returncode == 0 else "failure"
        outputs = _read_pairs(self.files["OUTPUT"])
        return StepRun(name, outcome, "run", step["run"], done.stdout, done.stderr, outputs, own)

    def _base_environment(self) -> dict[str, str]:
        github = self.contexts["github"]
        words = {
            "API_URL": self.runner.api,
            "SERVER_URL": "https://github.example.org",
            "REPOSITORY": github["repository"],
            "RUN_ID": github["run_id"],
            "RUN_NUMBER": "7",
            "RUN_ATTEMPT": "1",
            "ACTOR": "octocat",
            "SHA": github["sha"],
            "REF_NAME": github["ref_name"],
            **{kind: str(path) for kind, path in self.files.items()},
        }
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{self.runner.folder / 'programs'}:{os.environ['PATH']}"
        return {
            **kept,
            "PATH": path,
            **{f"GITHUB_{name}": word for name, word in words.items()},
            **self.runner.environment,
        }

    def _fill_all(self, values: dict[str, Any]) -> dict[str, str]:
        return {name: fill(value, self.contexts, self.functions) for name, value in values.items()}


def _check_out(runner: Runner, workspace: Path, options: dict[str, str]) -> None:
    assert options == {"persist-credentials": "false"}
    _git(workspace.parent, "clone", "-q", "--shared", str(runner.repository), str(workspace))
    (workspace / ".venv").symlink_to(PROJECT / ".venv")
    # What `make setup` made is newer than what it is made of.
    for name in ("pyproject.toml", "Makefile"):
        os.utime(workspace / name, (0, 0))


def _keep(runner: Runner, workspace: Path, options: dict[str, str]) -> None:
    """As actions/upload-artifact does with several paths: their common folder is the root of what is kept."""
    paths = [Path(path) for path in options["path"].split()]
    root = Path(os.path.commonpath(paths))
    target = runner.folder / "artifacts" / options["name"]
    for path in paths:
        if (workspace / path).is_dir():
            shutil.copytree(workspace / path, target / path.relative_to(root), dirs_exist_ok=True)


def _fetch(runner: Runner, workspace: Path, options: dict[str, str]) -> None:
    shutil.copytree(runner.folder / "artifacts" / options["name"], workspace / options["path"], dirs_exist_ok=True)


def _nothing(_runner: Runner, _workspace: Path, _options: dict[str, str]) -> None:
    """Stand in for what has no effect here: caches, credentials of clouds, attestations at GitHub."""


STAND_INS: dict[str, Callable[[Runner, Path, dict[str, str]], None]] = {
    "actions/checkout": _check_out,
    "actions/upload-artifact": _keep,
    "actions/download-artifact": _fetch,
    "actions/cache": _nothing,
    "actions/attest": _nothing,
    "aws-actions/configure-aws-credentials": _nothing,
}


def _with_defaults(document: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    declared = document["on"]["workflow_dispatch"]["inputs"]
    assert set(inputs) <= set(declared), "GitHub refuses inputs that are not declared"
    return {name: inputs.get(name, fields.get("default", "")) for name, fields in declared.items()}


def _within(asked: dict[str, str], given: dict[str, str]) -> bool:
    return all(given.get(name) in (level, "write") for name, level in asked.items())


def _matrix(job: dict[str, Any]) -> dict[str, Any]:
    matrix: dict[str, Any] = job.get("strategy", {}).get("matrix", {})
    return matrix


def _combinations(matrix: dict[str, Any]) -> list[dict[str, str]]:
    if not matrix:
        return [{}]
    ((name, values),) = matrix.items()
    return [{name: as_text(value)} for value in values]


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _read_pairs(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def _git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *named, "-C", folder, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def as_json(run: dict[str, JobRun]) -> str:
    """Return what ran, for the message of a failed test."""
    rows = {
        name: {step.id: f"{step.outcome} ({step.how}) {step.stderr[-600:]}" for step in one.steps}
        for name, one in flat(run).items()
    }
    return json.dumps(rows, indent=1)


def flat(run: dict[str, JobRun]) -> dict[str, JobRun]:
    """Return the jobs, with those of called workflows in place of their callers."""
    found: dict[str, JobRun] = {}
    for name, job in run.items():
        found |= flat(job.called) if job.called else {name: job}
    return found
