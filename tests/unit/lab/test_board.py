"""The board's rules, with a machine that only writes down what is asked of it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash.drivers import BootOverride, BootSource, OverrideEnabled, PowerState
from flash.lab.board import Board, EventSink
from flash.lab.boot import BoardState
from qtrade.errors import ToolError
from qtrade.machine.qmp import QmpEvent

pytestmark = pytest.mark.unit

ONCE_PXE = BootOverride(BootSource.PXE, OverrideEnabled.ONCE)
GUEST_RESET = QmpEvent("SHUTDOWN", {"guest": True, "reason": "guest-reset"})
GUEST_SHUTDOWN = QmpEvent("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})


class FakeGuest:
    """A machine that runs until it is stopped."""

    def __init__(self, state: BoardState, on_event: EventSink) -> None:
        self.booted_with = state
        self.say = on_event
        self.calls: list[str] = []

    def press_power_button(self) -> None:
        self.calls.append("button")

    def change_medium(self, path: Path | None) -> None:
        self.calls.append(f"medium {path.name if path else None}")

    def stop(self) -> None:
        self.calls.append("stop")


class Rig:
    """A board that runs in a thread, with the machines that it started and the states that it wrote down."""

    def __init__(self, folder: Path) -> None:
        self.guests: list[FakeGuest] = []
        self.kept: list[BoardState] = []
        self.breaks = False
        self.notes: list[str] = []
        self.board = Board(
            BoardState(), medium=folder / "m.iso", start=self._start, keep=self.kept.append, note=self.notes.append
        )
        self.thread = threading.Thread(target=self.board.run)
        self.thread.start()

    def _start(self, state: BoardState, on_event: EventSink) -> FakeGuest:
        if self.breaks:
            raise ToolError("QEMU did not start", details="port in use")
        self.guests.append(FakeGuest(state, on_event))
        return self.guests[-1]

    def settle(self) -> None:
        """Wait until everything that was sent has been done."""
        self.board.ask(lambda: None)

    def boots(self) -> list[BootSource]:
        return [guest.booted_with.override.target for guest in self.guests]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.board.close()
    rig.thread.join(5)
    assert not rig.thread.is_alive()


def test_once_is_used_by_the_next_power_on(rig: Rig) -> None:
    rig.board.ask(lambda: rig.board.set_override(ONCE_PXE))
    rig.board.ask(rig.board.power_on)
    assert rig.board.state.override == BootOverride()
    rig.board.ask(rig.board.restart)
    assert rig.boots() == [BootSource.PXE, BootSource.NONE]
    assert [state.override for state in rig.kept] == [ONCE_PXE, BootOverride()]


def test_once_is_used_by_a_guests_own_reboot(rig: Rig) -> None:
    rig.board.ask(rig.board.power_on)
    rig.board.ask(lambda: rig.board.set_override(ONCE_PXE))
    rig.guests[0].say(GUEST_RESET)
    rig.settle()
    rig.guests[1].say(GUEST_RESET)
    rig.settle()
    assert rig.boots() == [BootSource.NONE, BootSource.PXE, BootSource.NONE]
    assert rig.board.power is PowerState.ON


def test_continuous_stays(rig: Rig) -> None:
    always = BootOverride(BootSource.PXE, OverrideEnabled.CONTINUOUS)
    rig.board.ask(lambda: rig.board.set_override(always))
    rig.board.ask(rig.board.restart)
    rig.guests[0].say(GUEST_RESET)
    rig.settle()
    assert rig.boots() == [BootSource.PXE, BootSource.PXE]
    assert rig.board.state.override == always


def test_a_guest_that_shuts_down_is_off(rig: Rig) -> None:
    rig.board.ask(rig.board.power_on)
    rig.guests[0].say(GUEST_SHUTDOWN)
    rig.settle()
    assert rig.board.power is PowerState.OFF
    assert rig.guests[0].calls == ["stop"]


def test_graceful_restart_starts_again_once_the_guest_is_down(rig: Rig) -> None:
    rig.board.ask(rig.board.power_on)
    rig.board.ask(lambda: rig.board.shut_down(restart=True))
    assert (rig.guests[0].calls, len(rig.guests)) == (["button"], 1)
    rig.guests[0].say(GUEST_SHUTDOWN)
    rig.settle()
    assert (rig.board.power, len(rig.guests)) == (PowerState.ON, 2)


def test_a_reset_by_the_watchdog_is_told_apart_from_the_guests_own(rig: Rig) -> None:
    rig.board.ask(rig.board.power_on)
    rig.guests[0].say(GUEST_RESET)
    rig.settle()
    rig.guests[1].say(QmpEvent("WATCHDOG", {"action": "reset"}))
    rig.guests[1].say(GUEST_RESET)
    rig.settle()
    reset = ["guest went down: guest-reset", "machine starts"]
    assert rig.notes == ["machine starts", *reset, "watchdog expired: reset", *reset]


def test_a_power_cut_leaves_the_host_off_and_the_override_alone(rig: Rig) -> None:
    rig.board.ask(rig.board.power_on)
    rig.board.ask(lambda: rig.board.set_override(ONCE_PXE))
    rig.guests[0].say(None)
    rig.settle()
    assert (rig.board.power, rig.board.state.override) == (PowerState.OFF, ONCE_PXE)


def test_events_of_an_earlier_machine_are_not_of_this_one(rig: Rig) -> None:
    rig.board.ask(rig.board.power_on)
    rig.board.ask(rig.board.restart)
    rig.guests[0].say(None)
    rig.settle()
    assert rig.board.power is PowerState.ON


def test_a_machine_that_does_not_start_is_a_fault_and_keeps_the_override(rig: Rig) -> None:
    rig.breaks = True
    rig.board.ask(lambda: rig.board.set_override(ONCE_PXE))
    rig.board.ask(rig.board.power_on)
    assert rig.board.power is PowerState.OFF
    assert rig.board.fault is not None
    assert "port in use" in rig.board.fault
    assert rig.board.state.override == ONCE_PXE
    rig.breaks = False
    rig.board.ask(rig.board.power_on)
    assert (rig.board.power, rig.board.fault) == (PowerState.ON, None)


def test_medium_changes_while_the_host_runs(rig: Rig, tmp_path: Path) -> None:
    rig.board.ask(rig.board.power_on)
    downloaded = tmp_path / "download"
    downloaded.write_bytes(b"disc")
    rig.board.ask(lambda: rig.board.insert("http://x/i.iso", downloaded))
    assert (tmp_path / "m.iso").read_bytes() == b"disc"
    assert rig.board.state.medium_url == "http://x/i.iso"
    rig.board.ask(rig.board.eject)
    rig.board.ask(rig.board.eject)
    assert rig.board.state.medium_url is None
    assert rig.guests[0].calls == ["medium None", "medium m.iso", "medium None", "medium None"]


def test_an_error_is_raised_where_the_question_was_asked(rig: Rig) -> None:
    def fail() -> None:
        raise ToolError("no")

    with pytest.raises(ToolError, match="no"):
        rig.board.ask(fail)
    rig.settle()
