"""Flashes through the installer that are taken up: what may be on the disk, and what runs and must be drained before its power goes."""

import base64
import json
from dataclasses import replace

import pytest

from flash.context import Evidence
from flash.doors import boot_watch, installer
from flash.doors.boot_watch import BootWatch
from flash.doors.provider import ProviderIpxeEntry
from flash.doors.rescue import RescueEntry
from flash.journal import latest
from flash.run import flash
from flash.ssh import pin_host_key
from flash.states import State
from qtrade.errors import HostError, Refused
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host, make_settings
from tests.fakes.flash import FakeBoard, FakeContext, FakeDoor, Rig, kinds
from tests.fakes.projects import add_blobs
from tests.unit.flash.test_ladder import Entry, _short_server

pytestmark = pytest.mark.unit

OLD = {"image": "old", "version": "0.0.9", "boot_id": "b1", "once": "", "state": "persistent"}
DRAINED = {State.DRAINED: {"drained": ["50-agave"]}}
UNSURE = [State.DRAINED, State.STAGING, State.WRITING, State.VERIFIED]


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Rig:
    monkeypatch.setattr("flash.access.driver_for", lambda *_, **__: FakeBoard())
    made = Rig(make_settings(tmp_path))
    pin_host_key(made.settings, "rpc-1", "ssh-ed25519 AAAA")
    return made


def take_up(rig: Rig, stopped: State, failing: State) -> HostError:
    rig.flash(Door.PXE, FakeDoor(evidence=DRAINED), until=stopped)
    with pytest.raises(HostError, match="it broke") as caught:
        rig.flash(Door.PXE, FakeDoor({failing: HostError("it broke")}))
    return caught.value


@pytest.mark.parametrize("stopped", UNSURE)
@pytest.mark.parametrize("failing", [State.PREFLIGHT, State.DRAINED, State.STAGING])
def test_a_host_that_does_not_answer_may_have_half_a_system_on_its_disk(rig, stopped, failing) -> None:
    error = take_up(rig, stopped, failing)
    assert latest(rig.folder).state is State.FAILED_DIRTY
    assert "may be half written" in error.resolution
    assert kinds(rig) == []


@pytest.mark.parametrize("stopped", [State.PREFLIGHT, *UNSURE])
@pytest.mark.parametrize("failing", [State.PREFLIGHT, State.STAGING])
def test_a_host_that_answers_runs_from_its_disk_and_gets_its_services_back(rig, stopped, failing) -> None:
    rig.link.statuses = [OLD]
    error = take_up(rig, stopped, failing)
    assert latest(rig.folder).state is State.FAILED_SAFE
    assert "half written" not in error.resolution
    assert kinds(rig) == ["undrain"]


def test_before_the_drain_nothing_can_have_been_written(rig) -> None:
    take_up(rig, State.PREFLIGHT, State.PREFLIGHT)
    assert latest(rig.folder).state is State.FAILED_SAFE


@pytest.mark.parametrize(("answers", "end"), [(False, State.FAILED_DIRTY), (True, State.FAILED_SAFE)])
def test_a_flash_in_the_place_of_another_knows_what_that_may_have_left(rig, answers, end) -> None:
    rig.link.statuses = [OLD] if answers else []
    rig.flash(Door.PXE, FakeDoor(evidence=DRAINED), until=State.DRAINED)
    first = latest(rig.folder)
    with pytest.raises(HostError, match="it broke"):
        rig.flash(Door.PXE, FakeDoor({State.STAGING: HostError("it broke")}), cmdline="debug")
    assert (first.state, latest(rig.folder).state) == (end, end)


class Ignored(Entry):
    """A boot-once that the firmware ignores the first time: the old system boots, with its services."""

    def __init__(self, context: FakeContext) -> None:
        super().__init__(works_at=2)
        self.context = context
        self.asked: list[list[str]] = []

    def enter(self, context, installer):
        self.asked.append([json.loads(base64.b64decode(job.envelope["payload"]))["kind"] for job in context.link.jobs])
        entered = super().enter(context, installer)
        context.link.statuses = [{**OLD, "boot_id": "b2"}] if len(self.calls) == 1 else []
        return entered


def steps(rig: Rig, entry: Entry, monkeypatch) -> tuple[FakeContext, dict]:
    monkeypatch.setattr(installer, "FlashServer", _short_server())
    context = rig.context()
    add_blobs(context.store, context.image.image, context.settings.state_dir)
    made = installer.steps(entry)
    return context, {State.DRAINED: made[State.DRAINED], State.STAGING: made[State.STAGING]}


def drains(context: FakeContext) -> None:
    def answer(job, **_: object) -> Evidence:
        context.link.jobs.append(job)
        return {"drained": ["50-agave"]}

    context.link.run = answer  # type: ignore[method-assign]


def test_a_host_that_booted_its_old_system_is_drained_before_the_second_try(rig, monkeypatch) -> None:
    monkeypatch.setattr(boot_watch, "_EVERY_S", 0.1)
    rig.link.statuses = [OLD]
    context, made = steps(rig, Entry(works_at=2), monkeypatch)
    entry = Ignored(context)
    made = {**made, State.STAGING: installer.steps(entry)[State.STAGING]}
    drains(context)
    assert made[State.DRAINED](context, 1800) == {"drained": ["50-agave"]}
    # Far within the 900 s that a host has to show that it works.
    evidence = made[State.STAGING](context, 1800)
    for action in reversed(context.clean_up):
        action()
    assert entry.asked == [["drain"], ["drain", "drain"]], "the power went off while the services ran"
    assert evidence["rung"] == "second entry"
    assert "rpc-1 booted from its disk, not what it was told to (boot_id b2" in evidence["tried"][0]["error"]
    assert evidence["drained_again"] == ["50-agave"]


def test_a_host_whose_second_way_in_fails_gets_its_services_back(rig, monkeypatch) -> None:
    monkeypatch.setattr(boot_watch, "_EVERY_S", 0.1)

    class Dead(Ignored):
        def enter(self, context, installer):
            if self.calls:
                raise HostError("the BMC does not answer")
            return super().enter(context, installer)

    rig.link.statuses = [OLD]
    context, made = steps(rig, Entry(works_at=9), monkeypatch)
    drains(context)
    made = {**made, State.STAGING: installer.steps(Dead(context))[State.STAGING]}
    with pytest.raises(HostError, match="not by first entry nor by second entry"):
        flash(context, rig.plan(Door.PXE), steps={**FakeDoor().steps(), **made})
    assert latest(rig.folder).state is State.FAILED_SAFE
    assert kinds(rig) == ["drain", "drain", "undrain"]


@pytest.mark.parametrize(("boot_id", "known", "seen"), [("b1", True, False), ("b9", True, True), ("b9", False, False)])
def test_only_another_boot_of_a_host_whose_key_is_known_counts(rig, boot_id, known, seen, monkeypatch) -> None:
    monkeypatch.setattr(boot_watch, "_EVERY_S", 0.0)
    rig.link.statuses = [OLD]
    context = rig.context()
    if not known:
        (context.settings.state_dir / "known_hosts/rpc-1").unlink()
    watch = BootWatch(context, boot_id)
    if seen:
        with pytest.raises(HostError, match="booted from its disk"):
            watch.look()
    else:
        watch.look()


@pytest.mark.parametrize(
    ("driver", "repeats"),
    [
        ({"kind": "phoenixnap", "server_id": "s", "client_id": "c", "client_secret": "env:T"}, True),
        ({"kind": "latitude", "server_id": "sv_1", "token": "env:T"}, False),
    ],
    ids=["a reboot", "a reinstall"],
)
def test_a_script_of_ours_is_booted_twice_only_where_that_erases_nothing(rig, driver, repeats) -> None:
    context = rig.context()
    context.host = make_host(driver=driver, doors=["in_place"])
    assert ProviderIpxeEntry().can_repeat(context) is repeats


def test_the_provider_boots_its_rescue_system_twice_but_nobody_enters_one_of_a_person_twice(rig) -> None:
    context = rig.context()
    context.host = make_host(driver={"kind": "cherry", "server_id": 7, "token": "env:T"}, doors=["rescue"])
    assert RescueEntry().can_repeat(context)
    context.host = make_host(driver={"kind": "ssh"}, doors=["rescue"])
    assert not RescueEntry().can_repeat(context)


@pytest.mark.parametrize(("status", "kept", "runs_by"), [({**OLD, "sequence": 7}, 0, 7), (None, 9, 9)])
def test_an_older_image_is_refused_before_the_drain(rig, status, kept, runs_by, monkeypatch) -> None:
    monkeypatch.setattr(installer, "sequence_kept", lambda *_: kept)
    rig.link.statuses = [status] if status else []
    context = rig.context()
    context.image = replace(context.image, sequence=6)
    with pytest.raises(Refused, match=f"promoted as number 6, the host runs by number {runs_by}"):
        installer.enter_drained(context, 1800)
    assert kinds(rig) == []
    context.allow_older = True
    drains(context)
    installer.enter_drained(context, 1800)
    assert kinds(rig) == (["drain"] if status else [])


@pytest.mark.parametrize("allow_older", [True, False])
def test_the_installer_is_told_only_what_an_operator_asked_for(rig, allow_older) -> None:
    """An older image's agent knows no fields that it was not asked for."""
    context = rig.context()
    context.allow_older = allow_older
    add_blobs(context.store, context.image.image, context.settings.state_dir)
    job = installer._install_job(context, "http://h/s", 1)
    assert json.loads(base64.b64decode(job.envelope["payload"])).get("allow_older") == (allow_older or None)
