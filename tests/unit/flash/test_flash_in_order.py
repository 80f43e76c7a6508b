"""A flash that goes on through the host's next door: a journal of its own, and all the time that the services need."""

from dataclasses import replace

import pytest

import flash.run as loop
from flash.context import Evidence
from flash.doors import shared
from flash.journal import Journal, latest
from flash.run import flash_in_order
from flash.states import State, rules
from flash.trust import VerifiedImage
from qtrade.errors import HostError, TrustError
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host, make_settings
from tests.fakes.flash import FakeContext, FakeDoor, Rig
from tests.unit.flash.test_readiness import make_agave_image

pytestmark = pytest.mark.unit

READY_S = 900.0
DOORS = ["in_place", "kexec", "pxe"]


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(make_settings(tmp_path))


@pytest.fixture
def context(rig) -> FakeContext:
    """A flash of an image with a validator, which needs long until it is ready."""
    image = make_agave_image()
    made = replace(rig.context(), image=VerifiedImage(image, image.to_json(), image.list_text(), b""))
    made.host = make_host(doors=DOORS)
    return made


@pytest.fixture
def settled(monkeypatch) -> list[float]:
    """Let the host settle at once, and note how long it might have taken."""
    within: list[float] = []

    def settle(context: FakeContext, *, within_s: float) -> Evidence:
        within.append(within_s)
        return {"system": "running"}

    monkeypatch.setattr(shared, "wait_until_settled", settle)
    monkeypatch.setattr(shared, "wait_until_ready", lambda _: {"agave": {}})
    monkeypatch.setattr(shared, "check_specs", lambda _: {"specs": 3})
    return within


def begin(context: FakeContext, doors: dict[Door, FakeDoor], **options: bool) -> loop.FlashResult:
    plan = loop._plan(context, Door.IN_PLACE)
    steps = {door: {**fake.steps(), State.HEALTHY: shared.enter_healthy} for door, fake in doors.items()}
    return flash_in_order(context, plan, steps_of=lambda door: steps[door], **options)


def test_a_door_that_is_closed_is_followed_by_the_next_until_the_host_is_committed(rig, context, settled) -> None:
    closed = HostError("no answer")
    doors = {
        Door.IN_PLACE: FakeDoor({State.PREFLIGHT: closed}),
        Door.KEXEC: FakeDoor({State.STAGING: HostError("it was lost on the way")}),
        Door.PXE: FakeDoor(),
    }
    result = begin(context, doors)
    assert (result.state, result.evidence["door"]) == (State.COMMITTED, "pxe")
    journals = [Journal(path) for path in sorted(rig.folder.glob("*.jsonl"))]
    assert [(one.evidence("door"), one.state) for one in journals] == [
        ("in_place", State.FAILED_SAFE),
        ("kexec", State.FAILED_SAFE),
        ("pxe", State.COMMITTED),
    ]
    # The validator's time comes on top of the state's own, through whichever door.
    assert settled == [rules(Door.PXE, State.HEALTHY).deadline_s]
    assert rig.reporter.lines.count("door in_place is closed: no answer; going on through kexec") == 1


def test_a_plan_of_the_next_door_is_taken_up_again_as_it_is(rig, context, settled) -> None:
    doors = {Door.IN_PLACE: FakeDoor({State.PREFLIGHT: HostError("no answer")}), Door.KEXEC: FakeDoor()}
    flash_in_order(
        context, loop._plan(context, Door.IN_PLACE), until=State.ARMED, steps_of=lambda door: doors[door].steps()
    )
    again = FakeDoor()
    loop.flash(replace(context, clean_up=[]), loop._plan(context, Door.KEXEC), steps=again.steps())
    assert again.passed[0] is State.REBOOTING
    assert latest(rig.folder).evidence("door") == "kexec"


def test_what_no_other_door_would_cure_ends_the_flash(rig, context, settled) -> None:
    later = FakeDoor()
    with pytest.raises(TrustError, match="unsigned"):
        begin(context, {Door.IN_PLACE: FakeDoor({State.PREFLIGHT: TrustError("unsigned")}), Door.KEXEC: later})
    assert later.passed == []
