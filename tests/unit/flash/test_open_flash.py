"""A flash that is open: taken up with its own plan, aborted at a safe point, and shown."""

import base64
import json

import pytest

from flash.ending import abort
from flash.journal import latest
from flash.run import abort as abort_flash
from flash.run import check_same, flash, prepare, prepare_open
from flash.standing import show
from flash.states import State
from qtrade.errors import NotFound, Refused
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeContext, FakeDoor, FakeLink
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

OLD = {"image": "old", "version": "0.0.9", "boot_id": "b1", "once": ""}
EVIDENCE = {
    State.PREFLIGHT: {"old_image": "old"},
    State.DRAINED: {"drained": ["50-agave"]},
    State.ARMED: {"armed_boot_id": "b1"},
}


class Rig:
    """One host with a flash of version 0.1.0 that stopped after a state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reporter = RecordingReporter()
        self.link = FakeLink([OLD])

    def stop_after(self, door: Door, state: State, *, allow_older: bool = False) -> None:
        made, plan = prepare(self.settings, "rpc-1", "0.1.0", self.reporter, door=door, allow_older=allow_older)
        flash(made, plan, until=state, steps=FakeDoor(evidence=EVIDENCE).steps())

    def abort(self) -> State:
        made, plan = prepare_open(self.settings, "rpc-1", self.reporter)
        return abort(FakeContext(**{**vars(made), "fake_link": self.link}), plan)

    @property
    def kinds(self) -> list[str]:
        return [json.loads(base64.b64decode(job.envelope["payload"]))["kind"] for job in self.link.jobs]


@pytest.fixture
def rig(tmp_path) -> Rig:
    settings = make_settings(tmp_path)
    write_project(settings)
    publish_image(settings)
    return Rig(settings)


def test_an_open_flash_is_taken_up_with_its_own_version_and_door(rig) -> None:
    rig.stop_after(Door.IN_PLACE, State.DRAINED, allow_older=True)
    publish_image(rig.settings, version="0.2.0", cmdline="newer")
    context, plan = prepare_open(rig.settings, "rpc-1", rig.reporter)
    check_same(context, plan)
    assert (plan.version, plan.door, context.allow_older) == ("0.1.0", Door.IN_PLACE, True)
    fake = FakeDoor()
    assert flash(context, plan, steps=fake.steps()).state is State.COMMITTED
    assert fake.passed[0] is State.ARMED


def test_without_an_open_flash_there_is_nothing_to_take_up_or_to_abort(rig) -> None:
    for call in (prepare_open, abort_flash):
        with pytest.raises(NotFound, match="rpc-1 has no open flash"):
            call(rig.settings, "rpc-1", rig.reporter)
    rig.stop_after(Door.PXE, State.COMMITTED)
    with pytest.raises(NotFound):
        prepare_open(rig.settings, "rpc-1", rig.reporter)


def test_a_manifest_that_changed_since_is_named_not_flashed(rig) -> None:
    rig.stop_after(Door.PXE, State.PREFLIGHT)
    write_project(rig.settings, host={"cmdline": "debug"})
    context, plan = prepare_open(rig.settings, "rpc-1", rig.reporter)
    with pytest.raises(Refused, match="manifest or config of rpc-1 has changed") as caught:
        check_same(context, plan)
    assert "stands at PREFLIGHT" in caught.value.details


@pytest.mark.parametrize(
    ("door", "state", "end", "sent"),
    [
        (Door.IN_PLACE, State.PREFLIGHT, State.FAILED_SAFE, []),
        (Door.IN_PLACE, State.VERIFIED, State.FAILED_SAFE, ["undrain"]),  # it may have begun to drain
        (Door.IN_PLACE, State.DRAINED, State.FAILED_SAFE, ["arm", "undrain"]),  # it may have armed
        (Door.IN_PLACE, State.HEALTHY, State.ROLLED_BACK, []),
        (Door.PXE, State.PREFLIGHT, State.FAILED_SAFE, ["undrain"]),
        (Door.PXE, State.STAGING, State.FAILED_DIRTY, []),
        (Door.PXE, State.ARMED, State.QUARANTINED, []),
    ],
)
def test_an_abort_ends_at_a_safe_point(rig, door, state, end, sent) -> None:
    rig.stop_after(door, state)
    if end is State.ROLLED_BACK:
        rig.link.statuses = [{**OLD, "image": "new", "boot_id": "b2"}, {**OLD, "boot_id": "b3"}]
        sent = ["reboot"]
    assert rig.abort() is end
    assert rig.kinds == sent
    journal = latest(rig.settings.state_dir / "flashes/rpc-1")
    assert (journal.state, journal.evidence("error")) == (end, f"aborted by the operator after {state}")


def test_an_abort_after_arming_disarms_a_host_that_has_not_rebooted(rig) -> None:
    rig.stop_after(Door.IN_PLACE, State.ARMED)
    rig.link.statuses = [{**OLD, "once": "new"}]
    assert rig.abort() is State.ROLLED_BACK
    assert rig.kinds == ["arm", "undrain"]


def test_a_reinstall_whose_host_went_away_is_not_called_safe(rig) -> None:
    rig.stop_after(Door.PXE, State.DRAINED)
    rig.link.statuses = []
    assert rig.abort() is State.FAILED_DIRTY
    assert rig.kinds == []


def test_a_version_that_may_be_the_default_already_is_not_aborted(rig) -> None:
    rig.stop_after(Door.IN_PLACE, State.SOAKING)
    with pytest.raises(Refused, match=r"0\.1\.0 runs on rpc-1 and is healthy") as caught:
        rig.abort()
    assert "--resume" in caught.value.resolution


def test_the_command_aborts_under_a_lease_and_gives_it_back(rig) -> None:
    rig.stop_after(Door.IN_PLACE, State.PREFLIGHT)
    before = Leases(open_store(rig.settings).objects).read("rpc-1")
    result = abort_flash(rig.settings, "rpc-1", rig.reporter)
    assert (result.state, result.version) == (State.FAILED_SAFE, "0.1.0")
    after = Leases(open_store(rig.settings).objects).read("rpc-1")
    assert after.token > before.token
    assert after.released


def test_where_a_host_stands_is_shown_though_it_does_not_answer(rig) -> None:
    write_project(rig.settings, host={"address": "127.0.0.1", "ssh": {"identity_file": "/keys/deploy", "port": 1}})
    assert show(rig.settings, "rpc-1")["flash"] is None
    rig.stop_after(Door.PXE, State.PREFLIGHT)
    journal = latest(rig.settings.state_dir / "flashes/rpc-1")
    journal.path.with_suffix(".console").write_text("booting\nlogin:\n")
    shown = show(rig.settings, "rpc-1")
    assert shown["answers"] is False
    assert "cannot be reached" in shown["problem"]
    assert shown["lease"]["released"]
    assert not shown["lease"]["held"]
    found = shown["flash"]
    assert (found["state"], found["open"], found["version"], found["door"]) == ("PREFLIGHT", True, "0.1.0", "pxe")
    assert [one["state"] for one in found["reached"]] == ["PLANNED", "LEASED", "PREFLIGHT"]
    assert {one["token"] for one in found["reached"]} == {shown["lease"]["token"]}
    assert found["console"] == ["booting", "login:"]
