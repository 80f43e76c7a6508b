"""The steps of the workflows that need no machine, run as GitHub would run them: inputs, pins, locks, plans, pull requests, issues.

Actions of others are stand-ins, GitHub's API is a server with its shapes, where a job's token may do what its permissions say. What would
bake or touch a host is left out here, by name; `tests/torture/test_workflows.py` runs it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
import yaml

from qtrade import __version__
from qtrade.github.tmpfs import SHARED_MEMORY
from qtrade.manifest import RoleInputs
from qtrade.settings import Settings, load_settings
from tests.fakes.actions_runner import JobRun, Runner, as_json, copy_tree, flat
from tests.fakes.examples import host_fields
from tests.fakes.github_server import GitHubState, serve_github
from tests.fakes.projects import publish_image

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

NO_MACHINE = frozenset({
    "image.standins", "image.bake", "host.reach", "host.resolve", "host.plan", "host.flash", "host.verify",
})  # fmt: skip
EVIL = ("$(touch {flag})", "rpc-1; touch {flag}", "rpc-1\ntouch {flag}", "`touch {flag}`", '"; touch {flag} #')
BY_HAND = (
    "1-bare-metal", "2-ufw-solana", "3-datadog", "4-geyser", "5-postgres", "6-agave", "7-qtrade-client", "flash", "push", "rollback",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project, as a repository."""
    return copy_tree(tmp_path_factory.mktemp("base") / "repository")


@pytest.fixture
def runner(tmp_path: Path, base: Path) -> Iterator[Runner]:
    """A runner with host rpc-1, of recipe lab; what was fetched and locked on this machine is at hand."""
    own, state_dir = load_settings().state_dir, tmp_path / "state"
    state_dir.mkdir()
    for name in ("roots", "cache", "standins"):
        (state_dir / name).symlink_to(own / name)
    if (own / "locks").is_dir():
        shutil.copytree(own / "locks", state_dir / "locks")
    state = GitHubState()
    with serve_github(state) as api:
        variables = {"QTRADE_STATE_DIR": str(state_dir), "QTRADE_RECIPE": "lab"}
        runner = Runner(tmp_path, base, state, api, variables=variables, left_out=NO_MACHINE)
        host = host_fields(name="rpc-1", recipe="lab", address="192.0.2.10")
        (runner.repository / "manifests/hosts/rpc-1.yaml").write_text(yaml.safe_dump(host))
        yield runner


def results(run: dict[str, JobRun]) -> dict[str, str]:
    return {name: job.result for name, job in flat(run).items()}


@pytest.mark.parametrize(("workflow", "text"), list(zip(BY_HAND, cycle(EVIL), strict=False)))
def test_a_malicious_input_ends_a_run_before_anything_is_done(runner, tmp_path, workflow, text) -> None:
    flag = tmp_path / "flag"
    more = {"flash": {"version": "0.1.0"}, "4-geyser": {"version": "1", "rust_version": "1"}}.get(workflow, {})
    run = runner.run(f"{workflow}.yml", {"host": text.format(flag=flag), **more})
    assert {name for name, result in results(run).items() if result != "skipped"} == {"check"}, as_json(run)
    step = flat(run)["check"].step("inputs")
    assert step.outcome == "failure"
    assert "the workflow's inputs are refused; nothing was done" in step.stderr
    assert step.outputs == {}
    assert not flag.exists()
    assert runner.github.calls == []


def test_a_pinned_layer_comes_back_as_a_pull_request(runner) -> None:
    inputs = {
        "host": "192.0.2.10",
        "version": "4.2.2",
        "transaction_history": "on",
        "profile": "unchanged",
        "image_version": "1.0",
    }
    run = runner.run("6-agave.yml", inputs)
    jobs = flat(run)
    assert set(results(run).values()) == {"success"}, as_json(run)
    assert jobs["check"].outputs == {
        "host": "rpc-1",
        "environment": "development",
        "channel": "dev",
        "recipe": "lab",
        "version": "1.0",
        "pin": "agave=4.2.2",
        "set": "agave_transaction_history=on",
        "branch": "pin-agave",
    }
    plan = {line.split()[1]: line.split(maxsplit=2) for line in jobs["image"].step("plan").stdout.splitlines()}
    assert "agave" in plan
    files = runner.github.files_of("qtrade/pin-agave-lab")
    assert set(files) == {"manifests/images/lab.yaml"}
    recipe = yaml.safe_load(files["manifests/images/lab.yaml"])
    layer = next(one for one in recipe["layers"] if one["role"] == "agave")
    assert (recipe["components"]["agave"]["version"], layer["vars"]["agave_version"]) == ("4.2.2", "4.2.2")
    assert layer["toggles"] == {"agave_transaction_history": True}
    (pull,) = runner.github.pulls
    assert (pull["title"], pull["base"]["ref"]) == ("Pin agave=4.2.2 agave_transaction_history=on", "main")
    assert (jobs["host"].environment, jobs["host"].group) == ("development", "host-rpc-1")
    ran = {f"{name}.{step.id}" for name, job in jobs.items() for step in job.steps if step.how == "left out"}
    assert ran == NO_MACHINE
    assert "| pinned | agave=4.2.2 |" in jobs["image"].summary


def test_a_pair_that_does_not_fit_is_refused_before_anything_is_baked(runner) -> None:
    inputs = {"host": "rpc-1", "version": "16.0.0+solana.4.3.0", "rust_version": "1.97.0"}
    run = runner.run("4-geyser.yml", inputs)
    assert results(run) == {"check": "success", "image": "failure", "propose": "skipped", "host": "skipped"}, as_json(
        run
    )
    image = flat(run)["image"]
    assert "the validator and its Geyser plugin do not fit" in image.step("pin").stderr
    outcomes = image.outcomes()
    assert (outcomes["pin"], outcomes["plan"], outcomes["bake"], outcomes["summary"], outcomes["forget"]) == (
        "failure", "skipped", "skipped", "success", "success",
    )  # fmt: skip
    assert "| pin | ✗ failure |" in image.summary
    assert runner.github.calls == []


def test_secrets_are_in_memory_while_a_job_runs_and_gone_when_a_host_does_not_answer(runner, tmp_path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    key = (tmp_path / "key").read_text()
    runner.secrets = {"QTRADE_SSH_KEY": key, "QTRADE_VAULT_PASSWORD": "a-password-of-a-vault"}
    runner.left_out = frozenset()
    host = host_fields(name="rpc-1", recipe="lab", address="127.0.0.1", ssh={"port": 9, "identity_file": "/nowhere"})
    (runner.repository / "manifests/hosts/rpc-1.yaml").write_text(yaml.safe_dump(host))
    before = set(SHARED_MEMORY.glob("qtrade-*"))
    run = runner.run("rollback.yml", {"host": "127.0.0.1"})
    job = flat(run)["host"]
    assert (job.step("secrets").outcome, job.step("reach").outcome) == ("success", "failure"), as_json(run)
    assert job.step("secrets").stdout == "2 secrets are in memory: SSH_KEY, VAULT_PASSWORD\n"
    assert (job.outcomes()["rollback"], job.outcomes()["verify"], job.outcomes()["forget"]) == (
        "skipped",
        "skipped",
        "success",
    )
    assert set(SHARED_MEMORY.glob("qtrade-*")) == before
    shown = "".join(step.stdout + step.stderr for step in job.steps) + job.summary
    assert not any(line in shown for line in key.splitlines()[1:-1])
    assert "a-password-of-a-vault" not in shown


def test_a_flash_that_only_shows_its_plan_runs_with_the_environments_keys_and_vault(runner, tmp_path) -> None:
    state_dir = Path(runner.variables["QTRADE_STATE_DIR"])
    settings = Settings(project=runner.repository, state_dir=state_dir, store=state_dir / "store")
    publish_image(settings, inputs={"app": RoleInputs.model_validate({"secrets": [{"name": "api_key"}]})})
    secrets = {"api_key": "vault:secrets/development.yml#api_key"}
    host = host_fields(name="rpc-1", ssh={"identity_file": "/nowhere"}, secrets=secrets)
    (runner.repository / "manifests/hosts/rpc-1.yaml").write_text(yaml.safe_dump(host))
    (tmp_path / "password").write_text("a-password-of-a-vault")
    (runner.repository / "secrets").mkdir()
    encrypt = [
        Path(sys.executable).with_name("ansible-vault"),
        "encrypt",
        "--vault-password-file",
        tmp_path / "password",
        "--output",
    ]
    target = runner.repository / "secrets/development.yml"
    subprocess.run(
        [*encrypt, target, "-"], input="api_key: value-of-the-api-key\n", text=True, check=True, capture_output=True
    )
    keys = settings.keys_dir
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    runner.secrets = {
        "QTRADE_SSH_KEY": (tmp_path / "key").read_text(),
        "QTRADE_VAULT_PASSWORD": "a-password-of-a-vault",
        "QTRADE_JOB_KEY": (keys / "job.key").read_text(),
    }
    runner.variables |= {
        "QTRADE_TRUST_SET": (keys / "trust.json").read_text(),
        "QTRADE_ROOT": (keys / "root.pem").read_text(),
    }
    runner.left_out = frozenset()
    shutil.move(keys, tmp_path / "taken-away")
    run = runner.run("flash.yml", {"host": "rpc-1", "version": "0.1.0", "first": True, "dry_run": True})
    job = flat(run)["host"]
    assert job.result == "success", as_json(run)
    ran = [step.id for step in job.steps if step.how == "run" and step.outcome == "success"]
    assert ran == ["setup", "secrets", "resolve", "plan", "summary", "forget"]
    assert "good" in job.step("resolve").stdout
    assert "pxe" in job.step("plan").stdout
    shown = "".join(step.stdout + step.stderr for step in job.steps) + job.summary
    hidden = [*runner.secrets.values(), "value-of-the-api-key"]
    assert not any(secret in shown for secret in hidden)
    assert not keys.exists()


def test_a_night_that_fails_opens_one_issue_and_one_that_is_well_closes_it(runner) -> None:
    runner.event["event_name"] = "schedule"
    runner.left_out = frozenset({"image.standins", "image.lock"})
    runner.variables["QTRADE_CVE_TRACKER"] = "http://127.0.0.1:9/"
    for _ in range(2):
        run = runner.run("nightly.yml")
        assert results(run) == {
            "check": "success", "image": "failure", "release": "skipped", "rescan": "skipped", "propose": "skipped", "failed": "success",
            "well": "skipped",
        }, as_json(run)  # fmt: skip
        assert flat(run)["image"].step("tracker").outcome == "failure"
    (issue,) = runner.github.issues
    assert (issue["title"], issue["state"]) == ("The nightly image fails", "open")
    assert "- image: failure" in issue["body"]
    assert len(runner.github.comments) == 1
    done = ("standins", "lock", "tracker", "bake", "prove", "promote", "retention", "scan")
    runner.left_out = frozenset(f"{job}.{step}" for job in ("image", "release", "rescan") for step in done)
    recipe = runner.repository / "manifests/images/lab.yaml"
    recipe.write_text(recipe.read_text() + "# changed by the night's lock\n")
    run = runner.run("nightly.yml")
    assert results(run) | {"failed": "skipped"} == dict.fromkeys(results(run), "success") | {"failed": "skipped"}, (
        as_json(run)
    )
    assert runner.github.issues[0]["state"] == "closed"


def test_a_push_to_an_environment_and_a_flash_by_a_door_take_their_own_steps(runner) -> None:
    steps = ("reach", "resolve", "plan", "plan_all", "push", "push_all", "flash", "flash_by_door", "verify")
    runner.left_out = frozenset(f"host.{step}" for step in steps)
    job = flat(runner.run("push.yml", {"environment": "staging"}))["host"]
    assert (job.environment, job.group) == ("staging", "host-staging")
    assert [step.id for step in job.steps if step.how == "left out"] == ["plan_all", "push_all"]
    job = flat(runner.run("push.yml", {"host": "rpc-1", "dry_run": True}))["host"]
    assert [step.id for step in job.steps if step.how == "left out"] == ["reach", "resolve", "plan"]
    job = flat(runner.run("flash.yml", {"host": "rpc-1", "version": "0.1.0", "door": "pxe", "first": True}))["host"]
    assert [step.id for step in job.steps if step.how == "left out"] == ["resolve", "plan", "flash_by_door", "verify"]


def test_drift_looks_at_the_environments_that_have_hosts(runner) -> None:
    staging = host_fields(name="rpc-2", recipe="lab", address="192.0.2.20", environment="staging")
    (runner.repository / "manifests/hosts/rpc-2.yaml").write_text(yaml.safe_dump(staging))
    runner.left_out = frozenset({"look.drift"})
    run = runner.run("drift.yml", {})
    assert json.loads(flat(run)["check"].outputs["environments"]) == ["development", "staging"]
    groups = [job.group for job in flat(run).values() if job.group.startswith("drift-")]
    assert groups == ["drift-development", "drift-staging"]
    for path in (runner.repository / "manifests/hosts").glob("*.yaml"):
        path.unlink()
    assert results(runner.run("drift.yml", {}))["look"] == "skipped"


def test_a_promotion_waits_in_the_environment_that_it_is_for(runner) -> None:
    runner.left_out = frozenset({"promote.prove", "promote.plan", "promote.promote"})
    run = runner.run("promote.yml", {"recipe": "production", "version": "1.4.0", "environment": "production"})
    assert results(run) == {"check": "success", "promote": "success"}, as_json(run)
    job = flat(run)["promote"]
    assert (job.environment, job.group) == ("production", "promote-production")
    assert job.step("secrets").how == "run"


def test_tests_of_a_pull_request_and_the_one_required_job(runner) -> None:
    runner.left_out = frozenset({"quick.test", "integration.test", "e2e.test"})
    runner.event["event_name"] = "pull_request"
    run = runner.run("ci.yml")
    assert set(results(run).values()) == {"success"}, as_json(run)
    assert flat(run)["required"].step("require").stdout == "3 jobs have succeeded\n"


def test_a_release_is_refused_unless_tag_version_and_changelog_agree(runner) -> None:
    runner.left_out = frozenset({"check.test", "publish.build", "publish.release"})
    runner.event |= {"event_name": "push", "ref_name": "v99.0.0"}
    run = runner.run("release.yml")
    assert results(run) == {"check": "failure", "publish": "skipped"}
    assert "the tag is 'v99.0.0', the package is" in flat(run)["check"].step("tag").stderr
    changelog = runner.repository / "CHANGELOG.md"
    changelog.write_text(f"## {__version__}\n- what is new\n\n{changelog.read_text()}")
    runner.event["ref_name"] = f"v{__version__}"
    run = runner.run("release.yml")
    assert set(results(run).values()) == {"success"}, as_json(run)
    assert flat(run)["check"].step("tag").stdout == "- what is new\n"


def test_a_layer_without_a_version_changes_nothing(runner) -> None:
    runner.left_out |= {"image.pin", "image.plan"}
    run = runner.run("2-ufw-solana.yml", {"host": "rpc-1"})
    assert (flat(run)["check"].outputs["pin"], flat(run)["check"].outputs["set"]) == ("", "")
    assert "nothing changed: no pull request" in flat(run)["propose"].step("propose").stdout
    assert runner.github.pulls == []
