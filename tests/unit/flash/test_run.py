"""The loop of a flash: it journals, resumes, stops, fails safe, and holds the host alone."""

import threading
from dataclasses import asdict
from unittest.mock import Mock

import pytest

from flash import ending
from flash.context import Evidence
from flash.journal import Journal, latest
from flash.run import flash
from flash.states import ENDS, State, rules, sequence
from qtrade.errors import ConflictError, HostError
from qtrade.manifest.driver import Door
from qtrade.store import open_store
from qtrade.store.history import History
from tests.fakes.examples import make_image, make_settings
from tests.fakes.flash import FakeContext, FakeDoor, FakeLink, Rig, kinds

pytestmark = pytest.mark.unit

DOORS = (Door.IN_PLACE, Door.PXE)
STATES = [(door, state) for door in DOORS for state in sequence(door)]


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Rig:
    monkeypatch.setattr(ending, "wait_until_settled", lambda *_, **__: {"system": "running"})
    return Rig(make_settings(tmp_path))


@pytest.mark.parametrize("door", DOORS)
def test_a_good_flash_passes_every_state_and_journals_it(rig, door) -> None:
    fake = FakeDoor(evidence={State.STAGING: {"nonce": "n"}, State.COMMITTED: {"default": "x"}})
    result = rig.flash(door, fake)
    assert fake.passed == list(sequence(door))[1:]
    assert rig.states() == list(sequence(door))
    assert (result.state, result.image, result.version) == (State.COMMITTED, make_image().id, "0.1.0")
    assert (result.evidence["nonce"], result.evidence["default"]) == ("n", "x")
    assert [line for line in rig.reporter.lines if line.startswith("[")][-1] == "[13/13] COMMITTED"


@pytest.mark.parametrize("door", DOORS)
def test_every_step_gets_the_deadline_of_its_state(rig, door) -> None:
    fake = FakeDoor()
    rig.flash(door, fake)
    assert fake.deadlines == {state: rules(door, state).deadline_s for state in sequence(door)[1:]}


def test_the_journal_begins_with_the_frozen_plan(rig) -> None:
    rig.flash(Door.PXE, FakeDoor(), until=State.PLANNED)
    (entry,) = latest(rig.folder).entries
    seconds = entry.evidence.pop("seconds")
    assert seconds >= 0
    image = make_image()
    (past,) = History(open_store(rig.settings).objects).read()
    assert entry.evidence == {
        "deploy": past.deploy.id,
        "by": asdict(past.deploy.actor),
        "plan": rig.plan(Door.PXE).digest,
        "image": image.id,
        "version": "0.1.0",
        "door": "pxe",
        "allow_older": False,
        "reimage": {"adopt": "", "remake_system": False, "wipe_state": False},
    }


@pytest.mark.parametrize(("door", "stop"), STATES)
def test_a_flash_that_stopped_after_any_state_goes_on_there(rig, door, stop) -> None:
    order = list(sequence(door))
    first = FakeDoor()
    assert rig.flash(door, first, until=stop).state is stop
    assert rig.states() == order[: order.index(stop) + 1]
    second = FakeDoor()
    assert rig.flash(door, second).state is State.COMMITTED
    again = (State.STAGING, State.WRITING, State.VERIFIED)
    if stop is State.COMMITTED:
        expected = order[1:]
    elif door is Door.PXE and stop in (State.PREFLIGHT, State.DRAINED, *again):
        # What runs there now may not be what was drained, and the door may be closed.
        expected = order[order.index(State.PREFLIGHT) :]
    elif stop in again:
        expected = order[order.index(State.STAGING) :]
    else:
        expected = order[order.index(stop) + 1 :]
    assert second.passed == expected
    assert len(list(rig.folder.glob("*.jsonl"))) == (2 if stop is State.COMMITTED else 1)


def test_a_step_that_crashed_without_an_error_of_ours_is_taken_up_again(rig) -> None:
    with pytest.raises(KeyboardInterrupt):
        rig.flash(Door.IN_PLACE, FakeDoor({State.REBOOTING: KeyboardInterrupt()}))
    assert rig.states()[-1] is State.ARMED
    fake = FakeDoor()
    rig.flash(Door.IN_PLACE, fake)
    assert fake.passed[0] is State.REBOOTING


FAILURES = [(door, state) for door, state in STATES if state is not State.PLANNED]


@pytest.mark.parametrize(("door", "state"), FAILURES)
def test_a_failure_leads_where_the_rules_of_its_state_say(rig, door, state) -> None:
    # The old version answers, so a flash in place that fails late is proven to be back.
    rig.link.statuses = [{"image": "old", "version": "0.0.9", "boot_id": "b", "once": ""}]
    fake = FakeDoor({state: HostError("it broke", details="badly")}, {State.PREFLIGHT: {"old_image": "old"}})
    with pytest.raises(HostError, match="it broke"):
        rig.flash(door, fake)
    end = rules(door, state).on_failure
    assert rig.states()[-1] is end
    assert end in ENDS
    evidence = latest(rig.folder).entries[-1].evidence
    assert (evidence["failed"], evidence["error"], evidence["details"]) == (state, "it broke", "badly")
    assert rig.reporter.lines[-1] == f"{end}: it broke"
    assert ("return to the old version" in rig.reporter.steps) is (end is State.ROLLED_BACK)


def test_after_a_failure_the_next_flash_begins_anew(rig) -> None:
    with pytest.raises(HostError):
        rig.flash(Door.PXE, FakeDoor({State.WRITING: HostError("it broke")}))
    fake = FakeDoor()
    assert rig.flash(Door.PXE, fake).state is State.COMMITTED
    assert fake.passed[0] is State.LEASED
    assert len(list(rig.folder.glob("*.jsonl"))) == 2


def failing_late(rig: Rig) -> None:
    fake = FakeDoor({State.HEALTHY: HostError("unhealthy")}, {State.PREFLIGHT: {"old_image": "old"}})
    with pytest.raises(HostError, match="unhealthy"):
        rig.flash(Door.IN_PLACE, fake)


def test_a_rollback_is_confirmed_by_the_host_itself(rig) -> None:
    new = {"image": "new", "version": "0.1.0", "boot_id": "b1", "once": ""}
    old = {"image": "old", "version": "0.0.9", "boot_id": "b2", "once": ""}
    rig.link.statuses = [new, new, old]
    failing_late(rig)
    assert rig.states()[-1] is State.ROLLED_BACK
    evidence = latest(rig.folder).entries[-1].evidence
    assert (evidence["running"], evidence["version"], evidence["boot_id"]) == ("old", "0.0.9", "b2")
    assert len(rig.link.jobs) == 1


def test_a_host_that_never_booted_the_new_version_is_disarmed(rig) -> None:
    rig.link.statuses = [{"image": "old", "version": "0.0.9", "boot_id": "b", "once": "new"}]
    failing_late(rig)
    assert (rig.states()[-1], len(rig.link.jobs)) == (State.ROLLED_BACK, 1)


def test_a_host_that_fell_back_by_itself_is_not_rebooted(rig) -> None:
    rig.link.statuses = [{"image": "old", "version": "0.0.9", "boot_id": "b2", "once": ""}]
    failing_late(rig)
    assert (rig.states()[-1], rig.link.jobs) == (State.ROLLED_BACK, [])


def test_a_host_that_does_not_come_back_is_quarantined(rig) -> None:
    rig.link.statuses = [{"image": "new", "version": "0.1.0", "boot_id": "b1", "once": ""}]
    failing_late(rig)
    assert rig.states()[-1] is State.QUARANTINED
    assert "the return of the old version" in latest(rig.folder).evidence("fallback")


OLD = {"image": "old", "version": "0.0.9", "boot_id": "b1", "once": ""}
DRAINED = {
    State.PREFLIGHT: {"old_image": "old"},
    State.DRAINED: {"drained": ["50-agave"]},
    State.ARMED: {"armed_boot_id": "b1"},
}


def fail_at(rig: Rig, door: Door, fake: FakeDoor, **changes: State) -> HostError:
    with pytest.raises(HostError, match="it broke") as caught:
        rig.flash(door, fake, **changes)
    return caught.value


@pytest.mark.parametrize(
    ("door", "state", "sent"),
    [
        (Door.IN_PLACE, State.VERIFIED, []),
        (Door.IN_PLACE, State.DRAINED, ["undrain"]),
        (Door.IN_PLACE, State.ARMED, ["arm", "undrain"]),
        # It never rebooted: its boot_id is that of the arming.
        (Door.IN_PLACE, State.REBOOTING, ["undrain"]),
        (Door.PXE, State.PREFLIGHT, []),
        (Door.PXE, State.DRAINED, ["undrain"]),
        (Door.PXE, State.STAGING, ["undrain"]),
        (Door.PXE, State.WRITING, []),
        (Door.PXE, State.ARMED, []),
    ],
)
def test_what_was_drained_starts_again_where_the_old_version_runs_on(rig, door, state, sent) -> None:
    rig.link.statuses = [OLD]
    error = fail_at(rig, door, FakeDoor({state: HostError("it broke", resolution="mend it")}, DRAINED))
    assert kinds(rig) == sent
    assert latest(rig.folder).entries[-1].evidence.get("undrained") == (True if "undrain" in sent else None)
    assert error.resolution == "mend it"


def test_an_old_version_that_is_ill_itself_is_told_of(rig, monkeypatch) -> None:
    ill = Mock(side_effect=HostError("rpc-1 is degraded", details="failed units: agave.service"))
    monkeypatch.setattr(ending, "wait_until_settled", ill)
    rig.link.statuses = [{**OLD, "boot_id": "b2"}]
    error = fail_at(rig, Door.IN_PLACE, FakeDoor({State.HEALTHY: HostError("it broke", resolution="mend it")}, DRAINED))
    told = "rpc-1 is degraded: failed units: agave.service"
    assert error.resolution == f"mend it; the old version is back and not well either: {told}"
    assert rig.states()[-1] is State.ROLLED_BACK
    assert latest(rig.folder).entries[-1].evidence["ill"] == told


def test_a_host_that_fell_back_by_a_reboot_is_not_undrained(rig) -> None:
    rig.link.statuses = [{**OLD, "boot_id": "b2"}]
    fail_at(rig, Door.IN_PLACE, FakeDoor({State.REBOOTING: HostError("it broke")}, DRAINED))
    assert (rig.states()[-1], kinds(rig)) == (State.ROLLED_BACK, [])


def test_a_host_that_was_powered_off_is_not_undrained(rig) -> None:
    context = rig.context()

    def staging(context: FakeContext, deadline_s: float) -> Evidence:
        context.was_powered_off = True
        raise HostError("it broke")

    steps = {**FakeDoor(evidence=DRAINED).steps(), State.STAGING: staging}
    with pytest.raises(HostError, match="it broke"):
        flash(context, rig.plan(Door.PXE), steps=steps)
    assert (rig.states()[-1], kinds(rig)) == (State.FAILED_SAFE, [])


@pytest.mark.parametrize("drained", [[], "the host runs no agent that answers"])
def test_where_nothing_was_drained_nothing_is_started(rig, drained) -> None:
    evidence = {**DRAINED, State.DRAINED: {"drained": drained}}
    fail_at(rig, Door.PXE, FakeDoor({State.STAGING: HostError("it broke")}, evidence))
    assert kinds(rig) == []


class Stubborn(FakeLink):
    """A host that answers, and takes no job to arm anything."""

    def run(self, job, **options):
        super().run(job, **options)
        raise HostError("rpc-1 cannot be reached")


def test_a_host_that_cannot_be_disarmed_is_not_called_safe(rig) -> None:
    rig.link = Stubborn([{**OLD, "once": "new"}])
    error = fail_at(rig, Door.IN_PLACE, FakeDoor({State.ARMED: HostError("it broke")}, DRAINED))
    last = latest(rig.folder).entries[-1]
    assert (last.state, last.evidence["disarmed"]) == (State.QUARANTINED, False)
    assert "cannot be reached" in last.evidence["disarm_error"]
    assert "may boot the new version, once, at its next start" in error.resolution


def test_a_host_that_was_disarmed_says_so(rig) -> None:
    rig.link.statuses = [OLD]
    fail_at(rig, Door.IN_PLACE, FakeDoor({State.ARMED: HostError("it broke")}, DRAINED))
    assert (rig.states()[-1], latest(rig.folder).evidence("disarmed")) == (State.FAILED_SAFE, True)


def test_an_undrain_that_fails_is_told(rig) -> None:
    failure = HostError("it broke", resolution="mend it")
    error = fail_at(rig, Door.PXE, FakeDoor({State.STAGING: failure}, DRAINED))
    assert error.resolution.startswith("mend it; rpc-1 may run on with the services stopped")
    assert "does not answer" in error.resolution
    assert latest(rig.folder).evidence("undrained") is False


@pytest.mark.parametrize(
    ("door", "stop", "sent"),
    [
        (Door.IN_PLACE, State.VERIFIED, []),
        (Door.IN_PLACE, State.DRAINED, ["undrain"]),
        (Door.IN_PLACE, State.ARMED, ["undrain"]),
        (Door.IN_PLACE, State.REBOOTING, []),
        (Door.PXE, State.DRAINED, ["undrain"]),
        (Door.PXE, State.STAGING, []),
    ],
)
def test_a_drained_flash_that_is_given_up_is_undrained(rig, door, stop, sent) -> None:
    rig.link.statuses = [OLD]
    rig.flash(door, FakeDoor(evidence=DRAINED), until=stop)
    rig.flash(door, FakeDoor(), until=State.LEASED, cmdline="debug")
    assert kinds(rig) == sent


def test_an_open_flash_of_another_image_is_given_up(rig) -> None:
    rig.flash(Door.PXE, FakeDoor(), until=State.PREFLIGHT)
    fake = FakeDoor()
    result = rig.flash(Door.PXE, fake, cmdline="debug")
    assert fake.passed[0] is State.LEASED
    assert result.image == make_image(cmdline="debug").id
    first = Journal(rig.folder / "001.jsonl").entries[-1]
    assert (first.state, first.evidence["error"]) == (State.FAILED_SAFE, "given up for another flash")


def test_clean_up_runs_last_to_first_whatever_happens(rig) -> None:
    order: list[str] = []

    def fail() -> None:
        raise HostError("clean-up failed")

    def run(fake: FakeDoor) -> None:
        context = rig.context()
        context.clean_up += [lambda: order.append("first"), fail, lambda: order.append("last")]
        flash(context, rig.plan(Door.PXE), steps=fake.steps())

    run(FakeDoor())
    with pytest.raises(HostError, match="it broke"):
        run(FakeDoor({State.WRITING: HostError("it broke")}))
    assert order == ["last", "first"] * 2


def test_a_second_flash_of_a_host_is_refused_while_one_holds_it(rig) -> None:
    inside, finish = threading.Event(), threading.Event()
    fake = FakeDoor()
    steps = fake.steps()

    def wait(context, deadline_s):
        inside.set()
        assert finish.wait(10)
        return {}

    steps[State.WRITING] = wait
    context, plan = rig.context(), rig.plan(Door.PXE)
    first = threading.Thread(target=flash, args=(context, plan), kwargs={"steps": steps})
    first.start()
    try:
        assert inside.wait(10)
        second = FakeDoor()
        with pytest.raises(ConflictError, match="rpc-1 is held by another process") as caught:
            rig.flash(Door.PXE, second)
        assert caught.value.exit_code == 8
        assert second.passed == []
    finally:
        finish.set()
        first.join()
    assert rig.states()[-1] is State.COMMITTED
    assert rig.flash(Door.PXE, FakeDoor()).state is State.COMMITTED
