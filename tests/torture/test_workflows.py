"""The workflows as GitHub would run them, every step, with a lab host: first flash, a pinned layer, push, drift, rollback, a night.

The repository is a copy of this one with the host's manifest and a vault file in it; secrets are the environment's, and lie on tmpfs.
Actions of others are stand-ins (`tests/fakes/actions_runner.py`), GitHub's API is a server with its shapes. One host goes through all.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flash.host_keys import read_pinned
from flash.lab import host as lab
from flash.ssh import known_hosts_path
from qtrade.github.tmpfs import SHARED_MEMORY
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.fakes.actions_runner import JobRun, Runner, as_json, copy_tree, flat
from tests.fakes.github_server import GitHubState, serve_github
from tests.fakes.tracker import issue, serve_tracker
from tests.rigs import LabRig, make_rig, read_manifest

pytestmark = [pytest.mark.torture, pytest.mark.timeout(7200)]

NAME = "flows-1"
SECRETS = {
    "datadog_api_key": "0123456789abcdef0123456789abcdef",
    "client_token": "token-of-client",
    "geyser_x_token": "token-of-geyser-x",
}
PASSWORD = "the-password-of-the-vault-of-development"


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A blank host."""
    assert image_010
    rig = make_rig(settings, NAME, Firmware.BIOS)
    yield rig
    lab.down(settings, NAME, wipe=True)


@pytest.fixture(scope="module")
def runner(rig: LabRig, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("github")
    state = GitHubState()
    keys = settings.keys_dir
    with serve_github(state) as api:
        runner = Runner(
            folder,
            copy_tree(folder / "base"),
            state,
            api,
            variables={
                "QTRADE_STATE_DIR": str(settings.state_dir),
                "QTRADE_STORE": str(settings.store),
                "QTRADE_TRUST_SET": (keys / "trust.json").read_text(),
                "QTRADE_ROOT": (keys / "root.pem").read_text(),
            },
            secrets={
                "QTRADE_SSH_KEY": Path(read_manifest(rig)["ssh"]["identity_file"]).read_text(),
                "QTRADE_VAULT_PASSWORD": PASSWORD,
                **{
                    f"QTRADE_{name.upper()}_KEY": (keys / f"{name}.key").read_text()
                    for name in ("build", "promote", "job")
                },
            },
            timeout_s=5400,
        )
        write_manifests(runner, rig)
        yield runner


def write_manifests(runner: Runner, rig: LabRig) -> None:
    """Give the repository the host's manifest and an encrypted file with its secrets; the manifest's own key file is nowhere."""
    vault = runner.repository / "secrets/development.yml"
    vault.parent.mkdir()
    password = runner.folder / "vault-password"
    password.write_text(PASSWORD)
    program = Path(sys.executable).with_name("ansible-vault")
    options = ("--vault-password-file", password, "--output", vault, "-")
    subprocess.run(
        [program, "encrypt", *options], input=yaml.safe_dump(SECRETS), text=True, check=True, capture_output=True
    )
    password.unlink()
    manifest = read_manifest(rig)
    manifest["ssh"]["identity_file"] = "/nowhere/key"
    manifest["secrets"] = {name: f"vault:secrets/development.yml#{name}" for name in SECRETS}
    write_manifest(runner, manifest)


def write_manifest(runner: Runner, manifest: dict[str, Any]) -> None:
    (runner.repository / f"manifests/hosts/{NAME}.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))


def manifest_of(runner: Runner) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((runner.repository / f"manifests/hosts/{NAME}.yaml").read_text())
    return document


def secrets_of(runner: Runner) -> list[str]:
    return [
        *SECRETS.values(),
        *runner.secrets.values(),
        *(line for key in runner.secrets.values() for line in key.splitlines()[1:-1]),
    ]


def check(runner: Runner, run: dict[str, JobRun]) -> dict[str, JobRun]:
    """See that every job has done all that it should, that no secret is shown or left, and return the jobs."""
    jobs = flat(run)
    assert {name: job.result for name, job in jobs.items() if job.result == "failure"} == {}, as_json(run)
    for job in jobs.values():
        for step in job.steps:
            assert step.how != "left out"
            assert not any(secret in step.stdout + step.stderr for secret in secrets_of(runner)), step.id
        assert not any(secret in job.summary for secret in secrets_of(runner))
    assert not list(SHARED_MEMORY.glob("qtrade-*"))
    return jobs


def versions_of(rig: LabRig) -> str:
    return str(rig.link.status()["version"])


def test_a_first_flash(runner, rig, settings) -> None:
    before = rig.ledger_sha256()
    jobs = check(runner, runner.run("flash.yml", {"host": NAME, "version": "0.1.0", "first": True}))
    host = jobs["host"]
    assert (host.environment, host.group) == ("development", f"host-{NAME}")
    assert host.outcomes() == {
        "checkout": "success",
        "setup": "success",
        "aws": "skipped",
        "secrets": "success",
        "reach": "skipped",
        "resolve": "success",
        "plan": "success",
        "flash": "success",
        "flash_by_door": "skipped",
        "verify": "success",
        "summary": "success",
        "forget": "success",
    }
    assert versions_of(rig) == "0.1.0"
    assert rig.ledger_sha256() == before
    assert "- COMMITTED after" in host.summary
    # From now on the host's key is that of its manifest, and what this machine saw is gone, as on a runner that is made anew.
    manifest = manifest_of(runner)
    manifest["ssh"]["host_key"] = read_pinned(settings, NAME)
    write_manifest(runner, manifest)
    known_hosts_path(settings, NAME).unlink()


def test_a_layer_is_pinned_baked_flashed_and_proven(runner, rig) -> None:
    inputs = {"host": "127.0.0.1", "version": "4.2.1", "transaction_history": "on", "image_version": "0.2.0"}
    jobs = check(runner, runner.run("6-agave.yml", inputs))
    assert set(jobs) == {"check", "image", "propose", "host"}
    assert jobs["check"].outputs["host"] == NAME
    skipped = {step for step, outcome in jobs["image"].outcomes().items() if outcome != "success"}
    assert skipped == {"aws", "scan"}
    reach = jobs["host"].step("reach")
    assert [line.split()[:2] for line in reach.stdout.splitlines()] == [
        ["ok", "own"],
        ["ok", "host"],
        ["ok", "agent"],
        ["ok", "operator"],
    ]
    told = jobs["host"].step("verify").stdout
    verdicts = {what: verdict for what, verdict, *_ in map(str.split, told.splitlines())}
    # Development asks nothing of the machine.
    assert (verdicts.pop("hardware"), set(verdicts.values())) == ("skipped", {"proven"}), told
    assert versions_of(rig) == "0.2.0"
    files = runner.github.files_of("qtrade/pin-agave-lab")
    assert set(files) == {"manifests/images/lab.yaml", "manifests/releases/lab/0.2.0.json"}
    recipe = yaml.safe_load(files["manifests/images/lab.yaml"])
    agave = next(layer for layer in recipe["layers"] if layer["role"] == "agave")
    assert agave["toggles"] == {"agave_transaction_history": True}
    (pull,) = runner.github.pulls
    assert "+    toggles:" in pull["body"]
    assert "Open pins, which an image of this branch does not have" in jobs["propose"].summary


def test_a_push(runner) -> None:
    manifest = manifest_of(runner)
    manifest["config"]["agave_max_slot_lag"] = 120
    write_manifest(runner, manifest)
    jobs = check(runner, runner.run("push.yml", {"host": NAME}))
    assert "ready.json" in jobs["host"].step("plan").stdout
    assert "generation" in jobs["host"].step("push").stdout


def test_hosts_that_are_as_they_should_open_no_issue(runner) -> None:
    runner.event["event_name"] = "schedule"
    jobs = check(runner, runner.run("drift.yml"))
    assert jobs["check"].outputs == {"environments": '["development"]'}
    assert (jobs["look"].environment, jobs["look"].group) == ("watch-development", "drift-development")
    assert (jobs["failed"].result, jobs["well"].result) == ("skipped", "success")
    assert runner.github.issues == []


def test_a_rollback(runner, rig) -> None:
    check(runner, runner.run("rollback.yml", {"host": NAME}))
    assert versions_of(rig) == "0.1.0"


def test_a_flash_that_only_shows_its_plan(runner, rig) -> None:
    jobs = check(runner, runner.run("flash.yml", {"host": NAME, "version": "0.2.0", "dry_run": True}))
    assert "in_place" in jobs["host"].step("plan").stdout
    assert jobs["host"].outcomes()["flash"] == "skipped"
    assert versions_of(rig) == "0.1.0"


def test_a_night(runner) -> None:
    runner.event["event_name"] = "schedule"
    runner.variables["QTRADE_RECIPE"] = "lab"
    with serve_tracker({"openssl": {"CVE-2026-1": issue("resolved", fixed="0")}}) as tracker:
        runner.variables["QTRADE_CVE_TRACKER"] = tracker.url
        jobs = check(runner, runner.run("nightly.yml"))
    version = jobs["check"].outputs["version"]
    assert jobs["failed"].result == "skipped"
    assert f"dev -> lab {version}" in jobs["release"].step("promote").stdout
    assert f"manifests/releases/lab/{version}.json" in runner.github.files_of("qtrade/nightly-lab")
    listed = json.loads(qtrade_images(runner))["images"]
    assert [one["version"] for one in listed if "dev" in one["channels"]] == [version]


def qtrade_images(runner: Runner) -> str:
    program = shutil.which("qtrade", path=str(Path(sys.executable).parent))
    assert program
    names = {"QTRADE_STORE": runner.variables["QTRADE_STORE"], "QTRADE_STATE_DIR": runner.variables["QTRADE_STATE_DIR"]}
    done = subprocess.run(
        [program, "images", "list", "--json"],
        env={"PATH": "/usr/bin:/bin", **names},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
