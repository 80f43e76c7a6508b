"""What a policy does: whom it cures and when, whom it tells and how often; its record outlives the command."""

import json
import multiprocessing

import pytest
import yaml

from flash.drift import policy
from flash.drift.findings import Remedy
from flash.drift.fix import plan_fix
from flash.drift.policy import carry_out, decide, digest_of, is_due
from flash.drift.record import Enforced, Record, Told, record_of
from qtrade.errors import BadInput, ConflictError
from qtrade.manifest import DriftPolicy
from tests.fakes.datadog_server import API_KEY, serve_datadog
from tests.fakes.drift_reports import NOW, finding, report
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

ENFORCE = DriftPolicy(policy="enforce")
PUSH, HAND = finding("config", "fstab", Remedy.PUSH), finding("host_key", "key", Remedy.HAND)


@pytest.mark.parametrize(
    ("one", "rules", "record", "votes", "said"),
    [
        (report(finding()), DriftPolicy(), Record(), False, "the policy is report"),
        (report(finding()), DriftPolicy(policy="notify"), Record(), False, "the policy is notify"),
        (report(HAND), ENFORCE, Record(), False, "neither a push nor a reboot"),
        (report(PUSH, drained=("agave",)), ENFORCE, Record(), False, "it is drained (agave)"),
        (report(finding()), ENFORCE, Record(), True, "may vote"),
        (report(PUSH), ENFORCE, Record([Enforced("rpc-1", NOW - 3599, ("push",))]), False, "drifts again"),
        (report(PUSH), ENFORCE, Record([Enforced("rpc-2", NOW - 3599, ("push",))]), False, "1 hosts were cured"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_enforcing_has_its_limits(one, rules, record, votes, said) -> None:
    decision = decide(plan_fix(one), one, rules, record, votes=votes, now=NOW)
    assert not decision.acts
    assert said in decision.reason


@pytest.mark.parametrize(
    ("one", "record", "votes"),
    [
        (report(finding()), Record(), False),
        (report(PUSH), Record(), True),  # a push restarts what reads it, and leaves the validator's identity alone
        (report(PUSH, HAND), Record([Enforced("rpc-1", NOW - 3600, ("push",))]), False),
    ],
    ids=["reboot", "push to a validator", "after the window"],
)
def test_enforcing_acts_within_its_limits(one, record, votes) -> None:
    assert decide(plan_fix(one), one, ENFORCE, record, votes=votes, now=NOW).acts


def test_the_same_drift_is_told_once_and_again_after_a_while() -> None:
    drifted, clean = report(finding()), report()
    told = Record(told={"rpc-1": Told(digest_of(drifted), NOW)})
    assert is_due(drifted, Record(), ENFORCE, NOW)
    assert not is_due(drifted, told, ENFORCE, NOW + 3599)
    assert is_due(drifted, told, ENFORCE, NOW + 3600)
    assert is_due(report(finding(), PUSH), told, ENFORCE, NOW + 1)
    assert is_due(clean, told, ENFORCE, NOW + 1)
    assert not is_due(clean, Record(), ENFORCE, NOW)
    assert not is_due(clean, Record(told={"rpc-1": Told("", NOW)}), ENFORCE, NOW + 9999)


def test_a_value_that_changes_is_the_same_drift() -> None:
    assert digest_of(report(finding(found="1"))) == digest_of(report(finding(found="2")))


def _note(settings, number: int) -> None:
    with record_of(settings, "production") as record:
        record.enforced.append(Enforced(f"rpc-{number}", NOW, ("push",)))


def test_two_processes_lose_no_line_of_the_record(tmp_path) -> None:
    settings = make_settings(tmp_path)
    workers = [
        multiprocessing.get_context("fork").Process(target=_note, args=(settings, number)) for number in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    with record_of(settings, "production") as record:
        assert {one.host for one in record.enforced} == {f"rpc-{number}" for number in range(8)}


@pytest.mark.parametrize("text", ["{", "[]", '{"enforced": [{}], "told": {}}'])
def test_a_record_that_cannot_be_read_allows_nothing(tmp_path, text) -> None:
    settings = make_settings(tmp_path)
    (settings.state_dir / "drift").mkdir(parents=True)
    path = settings.state_dir / "drift/production.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"production\.json is no record"), record_of(settings, "production"):
        pytest.fail("the block ran")
    assert path.read_text() == text


class Project:
    """rpc-1 and rpc-2 of development, with a policy, Datadog, and a `fix` that remembers."""

    def __init__(self, tmp_path, monkeypatch, datadog, **rules: object) -> None:
        self.settings, self.reporter, self.datadog = make_settings(tmp_path), RecordingReporter(), datadog
        self.fixed: list[str] = []
        write_project(self.settings, environment={"drift": rules})
        text = (self.settings.project / "manifests/hosts/rpc-1.yaml").read_text()
        (self.settings.project / "manifests/hosts/rpc-2.yaml").write_text(
            yaml.safe_dump({**yaml.safe_load(text), "name": "rpc-2"})
        )
        monkeypatch.setenv("DD_API_KEY", API_KEY)
        monkeypatch.setenv("QTRADE_DATADOG_URL", datadog.url)
        monkeypatch.setattr(policy, "fix", self.fix)
        self.error: Exception | None = None

    def fix(self, settings, plan, reporter, look):
        self.fixed.append(plan.host)
        if self.error:
            raise self.error
        return look()

    def run(self, *reports, now: float = NOW) -> list[str]:
        notices = carry_out(self.settings, reports, self.reporter, lambda name: report(host=name), now=lambda: now)
        return [f"{one.report.host} {one.done}".strip() for one in notices]


@pytest.fixture
def datadog():
    with serve_datadog() as served:
        yield served


def test_a_policy_that_only_reports_tells_nobody(tmp_path, monkeypatch, datadog) -> None:
    project = Project(tmp_path, monkeypatch, datadog)
    assert project.run(report(finding())) == []
    assert datadog.requests == []


def test_drift_is_told_once_with_what_it_is_and_once_that_it_is_gone(tmp_path, monkeypatch, datadog) -> None:
    project = Project(tmp_path, monkeypatch, datadog, policy="notify")
    for at in (NOW, NOW + 60):
        project.run(report(finding()), report(host="rpc-2"), now=at)
    project.run(report(), now=NOW + 120)
    first, last = datadog.events
    assert (first["title"], first["alert_type"]) == ("rpc-1: 1 drifted", "warning")
    assert "file: /etc/motd" in first["text"]
    assert {"host:rpc-1", "env:development", "event:drift", "drift:file"} <= set(first["tags"])
    assert (last["title"], last["alert_type"]) == ("rpc-1: no drift any more", "success")
    assert project.fixed == []


def test_what_nobody_took_is_told_again(tmp_path, monkeypatch, datadog) -> None:
    project = Project(tmp_path, monkeypatch, datadog, policy="notify")
    monkeypatch.setenv("DD_API_KEY", "wrong-key-wrong-key")
    project.run(report(finding()))
    assert datadog.events == []
    assert "was not told" in project.reporter.lines[-1]
    monkeypatch.setenv("DD_API_KEY", API_KEY)
    project.run(report(finding()), now=NOW + 1)
    assert len(datadog.events) == 1


def test_enforcing_cures_one_host_and_leaves_the_next_for_later(tmp_path, monkeypatch, datadog) -> None:
    project = Project(tmp_path, monkeypatch, datadog, policy="enforce", enforce_window_s=600)
    drifted = (report(finding()), report(finding(), host="rpc-2"))
    assert project.run(*drifted) == ["rpc-1 reboot cured 1, 0 left", "rpc-2"]
    assert "rpc-2: not cured by policy: 1 hosts were cured within 600 s" in project.reporter.lines
    project.run(*drifted, now=NOW + 599)
    assert project.fixed == ["rpc-1"]
    project.run(drifted[1], now=NOW + 600)
    assert project.fixed == ["rpc-1", "rpc-2"]


def test_a_host_that_somebody_holds_is_left_and_uses_up_the_turn(tmp_path, monkeypatch, datadog) -> None:
    project = Project(tmp_path, monkeypatch, datadog, policy="enforce")
    project.error = ConflictError("rpc-1 is held by somebody")
    (told,) = project.run(report(finding()))
    assert told == "rpc-1 reboot failed: rpc-1 is held by somebody"
    record = json.loads((project.settings.state_dir / "drift/development.json").read_text())
    assert [one["host"] for one in record["enforced"]] == ["rpc-1"]
