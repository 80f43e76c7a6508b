"""What --fix does: the plan, the question, push and reboot with a drain before, and the proof that it cured what it was to."""

import base64
import json

import pytest

from flash.drift import fix as fixing
from flash.drift.findings import Remedy
from flash.drift.fix import fix, plan_fix, render_plan
from qtrade.errors import ConflictError, HostError, Refused
from tests.fakes.drift_reports import finding, report
from tests.fakes.drifting_host import NAME, push
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeBoard, FakeLink
from tests.fakes.projects import write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

PUSH, REBOOT = finding("config", "fstab", Remedy.PUSH), finding()
HAND = finding("cron", "/var/spool/cron/crontabs/root", Remedy.HAND, hint="find out who")
STATUS = {"image": "i" * 64, "default": "i" * 64, "once": "", "boot_id": "b-1"}


class Link(FakeLink):
    """A host that reboots when it is told to; `fails` is the kind of the job that it does not do."""

    fails = ""

    def run(self, job, **options):
        super().run(job, **options)
        kind = self.kinds[-1]
        if kind == self.fails:
            raise HostError(f"{kind} failed")
        if kind == "reboot":
            self.statuses = [{**STATUS, "boot_id": "b-2"}]
        return {}

    @property
    def kinds(self) -> list[str]:
        return [json.loads(base64.b64decode(job.envelope["payload"]))["kind"] for job in self.jobs]


class Rig:
    def __init__(self, tmp_path, monkeypatch) -> None:
        self.settings, self.link, self.pushed = make_settings(tmp_path), Link(statuses=[STATUS]), []
        write_project(self.settings)
        monkeypatch.setattr("flash.access.AgentLink", lambda _: self.link)
        monkeypatch.setattr("flash.access.driver_for", lambda *_, **__: FakeBoard())
        monkeypatch.setattr(fixing, "wait_until_settled", lambda *_, **__: {})
        monkeypatch.setattr(fixing, "push", lambda _, host, __: self.pushed.append((host, len(self.link.jobs))))

    def fix(self, *findings, after=()):
        plan = plan_fix(report(*findings))
        return fix(self.settings, plan, RecordingReporter(), lambda: report(*after))


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_the_plan_says_what_each_step_cures_and_what_is_left() -> None:
    one = report(REBOOT, PUSH, HAND, drained=("agave-validator.service",))
    plan = plan_fix(one)
    assert plan.steps == ("push", "reboot")
    assert render_plan(plan, one).splitlines() == [
        "fix rpc-1: push, then reboot",
        "  drained: agave-validator.service: the reboot starts these again",
        "  push    config fstab                        it differs",
        "  reboot  file /etc/motd                      it differs",
        "  left    cron /var/spool/cron/crontabs/root  yours: find out who",
    ]


def test_a_reboot_drains_first_and_is_proven_by_another_boot(rig) -> None:
    assert rig.fix(REBOOT, PUSH, HAND, after=(HAND,)).findings == (HAND,)
    assert rig.pushed == [(NAME, 0)]
    assert rig.link.kinds == ["drain", "reboot"]


def test_a_host_that_nobody_could_log_in_to_afterwards_is_not_rebooted(rig) -> None:
    with pytest.raises(Refused, match="not the pinned one"):
        rig.fix(REBOOT, PUSH, finding("host_key", "ssh_host_ed25519_key", Remedy.HAND))
    assert (rig.pushed, rig.link.kinds) == ([], [])


def test_a_push_alone_reboots_nothing(rig) -> None:
    rig.fix(PUSH)
    assert (rig.pushed, rig.link.kinds) == ([(NAME, 0)], [])


def test_what_is_still_there_is_an_error(rig) -> None:
    with pytest.raises(HostError, match="did not cure") as caught:
        rig.fix(REBOOT, after=(REBOOT,))
    assert "file: /etc/motd" in caught.value.details


def test_a_host_that_nobody_can_look_at_afterwards_is_not_cured(rig) -> None:
    with pytest.raises(HostError, match="did not cure"):
        rig.fix(PUSH, after=(finding("unobserved", "host", Remedy.HAND),))


def test_a_drain_that_fails_reboots_nothing_and_starts_the_services_again(rig) -> None:
    rig.link.fails = "drain"
    with pytest.raises(HostError, match="drain failed"):
        rig.fix(REBOOT)
    assert rig.link.kinds == ["drain", "undrain"]


@pytest.mark.parametrize("status", [{"default": "o" * 64}, {"once": "o" * 64}], ids=str)
def test_a_reboot_into_another_image_is_refused(rig, status) -> None:
    rig.link.statuses = [{**STATUS, **status}]
    with pytest.raises(Refused, match="would boot another image"):
        rig.fix(REBOOT)
    assert rig.link.kinds == []


def test_a_host_that_somebody_holds_is_left_alone(rig, monkeypatch) -> None:
    def held(*_: object) -> None:
        raise ConflictError("rpc-1 is held by somebody")

    monkeypatch.setattr(fixing, "held_access", held)
    with pytest.raises(ConflictError):
        rig.fix(REBOOT)
    assert rig.link.kinds == []


def test_the_command_asks_shows_the_plan_and_prints_what_is_then(host, cli, monkeypatch) -> None:
    (host.folder / "run/state/config/current/hostname").write_text("other\n")
    monkeypatch.setattr(fixing, "push", lambda *_: push(host, 2))
    code, _, err = cli("drift", "--host", NAME, "--fix")
    assert (code, "nobody can be asked" in err) == (2, True)
    assert "push  config hostname" in err
    code, out, _ = cli("drift", "--host", NAME, "--fix", "--yes", "--json")
    assert (code, json.loads(out)["drifted"]) == (0, False)


def test_the_command_asks_nothing_where_there_is_nothing_to_do(host, cli) -> None:
    code, out, err = cli("drift", "--host", NAME, "--fix")
    assert (code, "no drift" in out) == (0, True)
    assert "nothing that a push or a reboot cures" in err
    assert host.image
