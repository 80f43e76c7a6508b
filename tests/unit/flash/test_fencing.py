"""Whoever has lost the lease of a host touches it no more: no power, no job, no way back; with real leases in a store."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flash.context import Evidence
from flash.doors import Steps, in_place, installer
from flash.jobs import failure
from flash.journal import latest
from flash.netboot.server import FlashServer
from flash.run import flash
from flash.states import State
from qtrade.errors import HostError
from qtrade.manifest.driver import Door
from qtrade.store.leases import LEASE_S, LeaseLost, Leases
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeBoard, FakeContext, FakeDoor, Rig, kinds
from tests.fakes.projects import add_blobs
from tests.unit.flash.test_ladder import Entry

pytestmark = pytest.mark.unit

RUNS = {"image": "old", "version": "0.0.9", "boot_id": "b1", "once": "", "state": "persistent", "nonce": ""}
EVIDENCE = {"armed_boot_id": "b1", "old_image": "old", "nonce": "n", "drained": ["50-agave"]}


@pytest.fixture
def board(monkeypatch) -> FakeBoard:
    made = FakeBoard()
    monkeypatch.setattr("flash.access.driver_for", lambda *_, **__: made)
    return made


class Clock:
    """The machine's uptime, which jumps when a laptop wakes up."""

    def __init__(self, monkeypatch) -> None:
        self.slept = 0.0
        monkeypatch.setattr("flash.lease._uptime", lambda: time.monotonic() + self.slept)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def rig(tmp_path) -> Rig:
    made = Rig(make_settings(tmp_path))
    made.link.statuses = [RUNS]
    return made


def take_away(context: FakeContext, clock: Clock) -> None:
    """Let this machine sleep until its lease has run out, and somebody else take the host."""
    left = Leases(context.store.objects)._read("rpc-1")
    assert left is not None
    lapsed = {**json.loads(left[0].to_bytes()), "expires": time.time() - 1}
    context.store.objects.put("leases/rpc-1.json", json.dumps(lapsed).encode())
    other, before = Leases(context.store.objects).take("rpc-1", holder="bob@far", pid=7, where="far")
    assert before is not None
    assert other.token > context.token
    clock.slept += LEASE_S + 1


def everything(evidence: Evidence) -> Steps:
    return FakeDoor(evidence=dict.fromkeys(State, evidence)).steps()


def lose(rig: Rig, clock: Clock, state: State) -> None:
    """Flash in place with the real step of `state`, which begins when somebody else has the host."""

    def step(context: FakeContext, deadline_s: float) -> Evidence:
        take_away(context, clock)
        return in_place.steps()[state](context, deadline_s)

    context = rig.context()
    with pytest.raises(LeaseLost, match=r"the lease of rpc-1 is lost: .* held by bob@far"):
        flash(context, rig.plan(Door.IN_PLACE), steps={**everything(EVIDENCE), state: step})
    assert Leases(context.store.objects).read("rpc-1").holder == "bob@far"


def test_a_reboot_is_not_forced_by_power_after_the_loss(rig, board, clock) -> None:
    lose(rig, clock, State.REBOOTING)
    assert board.calls == []
    assert kinds(rig) == []
    # It stays open, for the same command to find once the host is this operator's again.
    assert latest(rig.folder).state is State.ARMED


@pytest.mark.parametrize("state", [State.DRAINED, State.ARMED, State.WRITING])
def test_no_job_is_signed_after_the_loss(rig, board, clock, state) -> None:
    lose(rig, clock, state)
    assert (kinds(rig), board.calls) == ([], [])


def test_the_host_is_not_brought_back_after_a_failure_that_the_other_one_caused(rig, board, clock) -> None:
    def healthy(context: FakeContext, deadline_s: float) -> Evidence:
        rig.link.statuses = [{**RUNS, "image": "new"}]
        take_away(context, clock)
        raise HostError("rpc-1 rebooted while it was watched")

    with pytest.raises(LeaseLost):
        flash(rig.context(), rig.plan(Door.IN_PLACE), steps={**everything(EVIDENCE), State.HEALTHY: healthy})
    assert (kinds(rig), board.calls) == ([], [])
    assert latest(rig.folder).state is State.CONFIGURED


def test_a_host_that_says_that_another_one_was_there_is_left_alone(rig, board, clock) -> None:
    class Followed:
        def run(self, job, **_: object) -> Evidence:
            rig.link.jobs.append(job)
            raise failure("rpc-1", {"code": "lease-lost", "message": "the job comes from an earlier holder"})

        def status(self, **_: object) -> Evidence:
            return RUNS

        def wait_for_status(self, *_: object, **__: object) -> Evidence:
            return RUNS

    context = rig.context()
    context.fake_link = Followed()  # type: ignore[assignment]
    steps = {**everything(EVIDENCE), State.REBOOTING: in_place.steps()[State.REBOOTING]}
    with pytest.raises(LeaseLost, match="comes from an earlier holder"):
        flash(context, rig.plan(Door.IN_PLACE), steps=steps)
    assert (kinds(rig), board.calls) == (["reboot"], [])
    assert latest(rig.folder).state is State.ARMED


def test_the_installer_is_not_entered_a_second_time_after_the_loss(rig, board, clock, monkeypatch) -> None:
    monkeypatch.setattr(installer, "FlashServer", _anywhere)
    monkeypatch.setattr(installer, "_LOOK_S", 0.05)
    entry = Losing(clock)
    context = rig.context()
    add_blobs(context.store, context.image.image, context.settings.state_dir)
    steps = {**everything({**EVIDENCE, "door": "pxe"}), State.STAGING: installer.steps(entry)[State.STAGING]}
    with pytest.raises(LeaseLost):
        flash(context, rig.plan(Door.PXE), steps=steps)
    assert entry.calls == ["enter, script ready"]
    assert latest(rig.folder).state is State.DRAINED


class Losing(Entry):
    """A way in that does not work, while somebody else takes the host."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(works_at=9)
        self.clock = clock

    def enter(self, context, installer):
        entered = super().enter(context, installer)
        take_away(context, self.clock)
        return entered


@contextmanager
def _anywhere(listen: str, port: int, **_: object) -> Iterator[FlashServer]:
    with FlashServer("127.0.0.1", 0) as server:
        yield server


def test_a_laptop_that_slept_goes_on_where_nobody_took_the_host(rig, board, clock) -> None:
    def slept(context: FakeContext, deadline_s: float) -> Evidence:
        before = Leases(context.store.objects).read("rpc-1")
        clock.slept += LEASE_S + 1
        context.check_held()
        assert Leases(context.store.objects).read("rpc-1").expires > before.expires
        return {}

    result = flash(rig.context(), rig.plan(Door.IN_PLACE), steps={**everything(EVIDENCE), State.WRITING: slept})
    assert result.state is State.COMMITTED


def test_who_cannot_ask_the_store_after_the_lease_ran_out_stops(rig, board, clock, monkeypatch) -> None:
    def away(context: FakeContext, deadline_s: float) -> Evidence:
        monkeypatch.setattr(Leases, "renew", _no_route)
        clock.slept += LEASE_S + 1
        return in_place.steps()[State.REBOOTING](context, deadline_s)

    with pytest.raises(LeaseLost, match=r"ran out and could not be renewed: no route"):
        flash(rig.context(), rig.plan(Door.IN_PLACE), steps={**everything(EVIDENCE), State.REBOOTING: away})
    assert (kinds(rig), board.calls) == ([], [])


def _no_route(*_: object) -> None:
    raise HostError("no route to the store")
