"""The integration suite: on every host of staging that runs the image, and its last word is attested."""

import pytest
import yaml

from flash import integration
from flash.integration import Runners, find_runners, integrate, judge
from flash.verify import Check, CheckState, VerifyResult
from qtrade.errors import HostError, NotFound
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.trust.attest import attest_rollout
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import verify_statements
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit


class Fleet:
    """Hosts of staging and one of development; `runs` says which image each has, None: it does not answer."""

    def __init__(self, settings: Settings, monkeypatch) -> None:
        self.settings, self.proven = settings, []
        write_project(settings)
        self.image = publish_image(settings)
        folder = settings.project / "manifests/hosts"
        for name, changes in {
            "rpc-1": {"environment": "development"},
            "rpc-2": {"environment": "staging"},
            "rpc-3": {"environment": "staging"},
            "old-1": {"environment": "staging", "recipe": "other"},
        }.items():
            fields = host_fields(name=name, **changes)
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(fields))
        self.runs: dict[str, str | None] = dict.fromkeys(("rpc-1", "rpc-2", "rpc-3", "old-1"), self.image.id)
        self.failing: dict[str, str] = {}
        monkeypatch.setattr(integration, "target_for", lambda _, host: host.name)
        monkeypatch.setattr(integration.AgentLink, "status", lambda link: self.status(link.target))
        monkeypatch.setattr(integration, "verify", self.verify)

    def status(self, name: str) -> dict[str, str]:
        image = self.runs[name]
        if image is None:
            raise HostError(f"{name} cannot be reached")
        return {"image": image, "version": "0.1.0"}

    def verify(self, _settings, name: str, _reporter, *, required: frozenset[str]) -> VerifyResult:
        self.proven.append(name)
        assert {"specs", "services", "image"} <= required
        state = CheckState.FAILED if name in self.failing else CheckState.PROVEN
        return VerifyResult(name, "0.1.0", self.image.id, (Check("specs", state, self.failing.get(name, "9 hold")),))

    def run(self):
        return integrate(self.settings, "demo", "0.1.0", RecordingReporter())

    @property
    def said(self):
        trust = ensure_keyring(self.settings).trust
        return verify_statements(self.image.id, open_store(self.settings).attestations(self.image.id), trust)


@pytest.fixture
def fleet(tmp_path, monkeypatch) -> Fleet:
    return Fleet(make_settings(tmp_path), monkeypatch)


def test_every_host_of_staging_that_runs_it_is_proven(fleet) -> None:
    said = fleet.run()
    assert (said.hosts, said.passed, fleet.proven) == (("rpc-2", "rpc-3"), True, ["rpc-2", "rpc-3"])
    assert fleet.said.integrations == (said,)


def test_a_host_that_fails_fails_the_suite_and_that_is_attested(fleet) -> None:
    fleet.failing["rpc-3"] = "1 of 9 specs fail"
    said = fleet.run()
    assert (said.passed, said.failures) == (False, ("rpc-3: specs: 1 of 9 specs fail",))
    assert fleet.said.integrations[-1].passed is False


def test_who_runs_something_else_is_not_asked(fleet) -> None:
    fleet.runs["rpc-3"] = "f" * 64
    assert fleet.run().hosts == ("rpc-2",)


def test_a_silent_host_that_has_the_image_has_not_passed(fleet) -> None:
    fleet.runs["rpc-3"] = None
    assert fleet.run().passed, "it never had the image, as far as the store knows"
    open_store(fleet.settings).set_host_images("rpc-3", [fleet.image.id])
    said = fleet.run()
    assert said.failures == ("rpc-3: does not answer: rpc-3 cannot be reached",)


def test_without_a_host_that_runs_it_nothing_is_attested(fleet) -> None:
    fleet.runs.update(dict.fromkeys(("rpc-2", "rpc-3"), "f" * 64))
    with pytest.raises(NotFound, match="no host of staging runs demo"):
        fleet.run()
    assert fleet.said.integrations == ()


def test_a_host_whose_proof_breaks_off_fails() -> None:
    def breaks(name: str) -> VerifyResult:
        raise HostError(f"{name} is gone")

    assert judge(Runners(("a",), {}), "staging", "1", breaks).failures == ("a: a is gone",)


def test_hosts_are_found_by_recipe_and_environment(fleet) -> None:
    store = open_store(fleet.settings)
    assert find_runners(fleet.settings, store, "demo", fleet.image.id, "development").running == ("rpc-1",)
    assert find_runners(fleet.settings, store, "other", fleet.image.id, "staging").running == ("old-1",)


def test_a_rollout_says_at_its_end_that_it_was_committed(fleet) -> None:
    store, keyring = open_store(fleet.settings), ensure_keyring(fleet.settings)
    said = attest_rollout(
        store, keyring, fleet.image.id, environment="staging", version="0.1.0", hosts=("rpc-2", "rpc-3"), soak_s=1800
    )
    assert fleet.said.rollouts == (said,)
    (keyring.folder / "job.key").unlink()
    (keyring.folder / "build.key").unlink()
    with pytest.raises(NotFound):
        attest_rollout(store, keyring, fleet.image.id, environment="staging", version="0.1.0", hosts=("a",), soak_s=1)


def test_the_command_ends_by_how_the_suite_ended(fleet, monkeypatch, capsys) -> None:
    for name in ("PROJECT", "STATE_DIR", "STORE"):
        monkeypatch.setenv(f"QTRADE_{name}", str(getattr(fleet.settings, name.lower())))
    cli = Cli(monkeypatch, capsys)
    args = ("images", "integrate", "0.1.0", "--recipe", "demo")
    assert cli.json(*args)["hosts"] == ["rpc-2", "rpc-3"]
    fleet.failing["rpc-2"] = "broken"
    code, out, err = cli(*args)
    assert (code, out) == (HostError.exit_code, "staging: demo 0.1.0 on rpc-2, rpc-3: FAILED\n")
    assert "rpc-2: specs: broken" in err
