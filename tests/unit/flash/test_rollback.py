"""Which rollbacks are refused before the host is told anything, and how the others get their boot."""

import pytest

from flash.journal import Journal
from flash.rollback import plan_rollback, render_rollback, rollback
from flash.rollback_guard import require_config
from flash.ssh import pin_host_key
from flash.states import State
from qtrade.cli.flash import rollback as run_command
from qtrade.errors import HostError, Refused
from qtrade.settings import Settings
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeBoard, FakeLink
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

IMAGE = "a" * 64


def test_an_image_without_config_is_refused() -> None:
    with pytest.raises(Refused, match="no config generation") as caught:
        require_config({"generations": {"b" * 64: "7"}}, "rpc-1", IMAGE)
    assert "bbbbbbbbbbbbbbbb… 7" in caught.value.details


@pytest.mark.parametrize("status", [{"generations": {IMAGE: "7"}}, {}], ids=["it has one", "an older agent"])
def test_an_image_with_config_goes_on(status) -> None:
    require_config(status, "rpc-1", IMAGE)


class Hung(FakeLink):
    """A host that takes every job, and boots only when its power is cycled: then the image `boots`."""

    board: FakeBoard
    boots: str

    def status(self, *, timeout_s: float = 60):
        if self.board.calls:
            self.statuses = [{**self.statuses[0], "image": self.boots, "version": "0.1.0", "boot_id": "2"}]
        return super().status(timeout_s=timeout_s)

    def run(self, job, **options):
        super().run(job, **options)
        return {"bytes_fetched": 0}


@pytest.fixture
def hung(tmp_path, monkeypatch) -> tuple[Hung, Settings]:
    """A host that runs 0.2.0, holds 0.1.0, and hangs on its way down."""
    settings = make_settings(tmp_path)
    identity = tmp_path / "deploy"
    identity.touch(mode=0o600)
    write_project(settings, host={"ssh": {"identity_file": str(identity)}})
    pin_host_key(settings, "rpc-1", "ssh-ed25519 AAAA")
    old, new = publish_image(settings, cmdline="old"), publish_image(settings, version="0.2.0", cmdline="new")
    status = {"image": new.id, "default": new.id, "previous": old.id, "installed": [new.id, old.id], "boot_id": "1"}
    status["version"] = "0.2.0"
    link = Hung(statuses=[status])
    link.boots, link.board = old.id, FakeBoard()
    monkeypatch.setattr("flash.access.AgentLink", lambda _: link)
    monkeypatch.setattr("flash.access.driver_for", lambda *_, **__: link.board)
    return link, settings


def test_a_plan_says_what_would_boot_and_touches_nothing(hung, monkeypatch) -> None:
    link, settings = hung
    monkeypatch.setattr("flash.rollback.AgentLink", lambda _: link)
    plan = plan_rollback(settings, "rpc-1")
    assert (plan.runs, plan.version, plan.reasons, plan.warnings) == ("0.2.0", "0.1.0", (), ())
    assert (link.jobs, link.board.calls) == ([], [])
    assert render_rollback(plan).splitlines()[0] == "rollback of rpc-1 to 0.1.0"
    assert plan_rollback(settings, "rpc-1", to="0.2.0").reasons == ("rpc-1 runs that version already",)


def test_a_refused_plan_asks_for_no_name(hung, monkeypatch, capsys) -> None:
    link, settings = hung
    monkeypatch.setattr("flash.rollback.AgentLink", lambda _: link)
    monkeypatch.setattr("qtrade.cli.flash.load_settings", lambda: settings)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(Refused, match="rpc-1 runs that version already"):
        run_command(host="rpc-1", to="0.2.0")
    assert "rollback of rpc-1 to 0.2.0" in capsys.readouterr().err
    assert (link.jobs, link.board.calls) == ([], [])


def test_what_a_host_fell_back_to_becomes_its_default_without_a_reboot(hung, monkeypatch) -> None:
    link, settings = hung
    monkeypatch.setattr("flash.rollback.AgentLink", lambda _: link)
    old, new = link.boots, link.statuses[0]["image"]
    link.statuses[0].update(image=old, version="0.1.0")
    plan = plan_rollback(settings, "rpc-1")
    assert (plan.image, plan.reasons, plan.reboots) == (old, (), False)
    assert "no reboot" in render_rollback(plan)
    result = rollback(settings, "rpc-1", RecordingReporter())
    assert (result.image, result.version, result.boot) == (old, "0.1.0", {})
    assert len(link.jobs) == 1
    assert link.board.calls == []
    # One that boots once, of a flash under way, is no such thing.
    link.statuses[0].update(image=new, version="0.2.0", default=old, previous="")
    with pytest.raises(Refused, match="runs that version already"):
        rollback(settings, "rpc-1", RecordingReporter(), to="0.2.0")


def test_a_plan_warns_of_a_version_that_has_just_fallen_back(hung, monkeypatch) -> None:
    link, settings = hung
    monkeypatch.setattr("flash.rollback.AgentLink", lambda _: link)
    folder = settings.state_dir / "flashes/rpc-1"
    folder.mkdir(parents=True)
    journal = Journal(folder / "20261129T000000Z-1.jsonl")
    journal.write(State.PLANNED, {"version": "0.1.0"})
    journal.write(State.ROLLED_BACK, {"error": "rpc-1 is degraded"})
    assert plan_rollback(settings, "rpc-1").warnings == (
        "the last flash of 0.1.0 ended ROLLED_BACK: rpc-1 is degraded",
    )
    assert plan_rollback(settings, "rpc-1", to="0.2.0").warnings == ()


def test_without_a_previous_version_those_that_are_there_are_named(hung, monkeypatch) -> None:
    link, settings = hung
    link.statuses[0]["previous"] = ""
    monkeypatch.setattr("flash.rollback.AgentLink", lambda _: link)
    with pytest.raises(Refused, match="no previous version") as refused:
        plan_rollback(settings, "rpc-1")
    assert (refused.value.details, "--to" in refused.value.resolution) == ("installed: 0.2.0, 0.1.0", True)


def test_a_host_that_hangs_on_its_way_down_is_power_cycled(hung) -> None:
    link, settings = hung
    result = rollback(settings, "rpc-1", RecordingReporter())
    assert (result.version, result.image) == ("0.1.0", link.boots)
    assert result.boot["rung"] == "power cycle"
    assert "did not happen" in result.boot["tried"][0]["error"]
    assert (link.board.calls, link.disconnected) == (["cycle"], 1)


def test_a_host_that_boots_another_version_fails_the_rollback(hung) -> None:
    link, settings = hung
    link.boots = link.statuses[0]["image"]
    with pytest.raises(HostError, match=r"rpc-1 runs .*, not "):
        rollback(settings, "rpc-1", RecordingReporter())
