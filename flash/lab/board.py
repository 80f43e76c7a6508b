"""The lab host's main board: power, resets and boot overrides, with QEMU as the machine behind them.

One thread runs everything here (`run`); others hand it work through `do` and `ask`. QEMU never resets by itself: it
pauses, and the board starts it again in the boot order of that moment: "Once" means once for a guest's own reboot too.
"""

import queue
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from flash.drivers import BootOverride, PowerState
from flash.lab.boot import BoardState, after_start, with_override
from qtrade.errors import QtradeError
from qtrade.machine.qmp import QmpEvent
from qtrade.machine.spec import TapNetwork

_TICK_S = 0.5
_ANSWER_TIMEOUT_S = 60
_Answer = TypeVar("_Answer")
EventSink = Callable[[QmpEvent | None], None]


class Guest(Protocol):
    """What the board needs of a running machine."""

    def press_power_button(self) -> None:
        """Ask the guest to shut down."""
        ...

    def change_medium(self, path: Path | None) -> None:
        """Change the disc while the guest runs."""
        ...

    def stop(self) -> None:
        """Switch off."""
        ...


class Board:
    """Power and boot of one machine. `start` starts it, `keep` writes down what must be remembered, `note` what happened."""

    def __init__(
        self,
        state: BoardState,
        *,
        medium: Path,
        start: Callable[[BoardState, EventSink], Guest],
        keep: Callable[[BoardState], None],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.state = state
        self.fault: str | None = None
        self._medium = medium
        self._start = start
        self._keep = keep
        self._note = note
        self._guest: Guest | None = None
        self._starts = 0
        self._is_restarting = False
        self._is_closed = False
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    @property
    def power(self) -> PowerState:
        """Whether the machine runs."""
        return PowerState.OFF if self._guest is None else PowerState.ON

    def run(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Serve until `close`, or until `is_wanted` says no; the machine is then switched off."""
        while not self._is_closed and is_wanted():
            try:
                self._inbox.get(timeout=_TICK_S)()
            except queue.Empty:
                continue
            except QtradeError as error:
                self.fault = error.render()
        self.force_off()

    def close(self) -> None:
        """End `run`. For any thread, and for signal handlers."""
        self.do(self._close)

    def do(self, work: Callable[[], None]) -> None:
        """Have the board's thread do something, soon. For any thread."""
        self._inbox.put(work)

    def ask(self, work: Callable[[], _Answer]) -> _Answer:
        """Have the board's thread do something and return its answer. For any other thread."""
        answer: Future[_Answer] = Future()

        def settle() -> None:
            try:
                answer.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is raised again where the question was asked
                answer.set_exception(error)

        self.do(settle)
        return answer.result(_ANSWER_TIMEOUT_S)

    def power_on(self) -> None:
        """Start the machine if it is off; this uses up an override that holds once."""
        if self._guest is not None:
            return
        self._starts += 1
        self._note("machine starts")
        self._is_restarting = False
        try:
            self._guest = self._start(self.state, partial(self._on_event, self._starts))
        except QtradeError as error:
            self.fault = error.render()
            return
        self.fault = None
        self.set_override(after_start(self.state.override))

    def force_off(self) -> None:
        """Switch off without asking the guest."""
        if self._guest is not None:
            self._guest.stop()
            self._guest = None

    def restart(self) -> None:
        """Switch off and on."""
        self.force_off()
        self.power_on()

    def shut_down(self, *, restart: bool = False) -> None:
        """Ask the guest to shut down; it may ignore that. With `restart` the board starts it again after that."""
        if self._guest is not None:
            self._is_restarting = restart
            self._guest.press_power_button()
        elif restart:
            self.power_on()

    def set_override(self, override: BootOverride) -> None:
        """Set what the next start boots from."""
        self._remember(with_override(self.state, override))

    def set_tap(self, tap: TapNetwork | None) -> None:
        """Choose the network of the next start: a tap, or QEMU's own."""
        self._remember(replace(self.state, tap=tap))

    def insert(self, url: str, downloaded: Path) -> None:
        """Put a disc that was downloaded from `url` into the CD drive."""
        self.eject()
        shutil.move(downloaded, self._medium)
        self._remember(replace(self.state, medium_url=url))
        self._change_medium(self._medium)

    def eject(self) -> None:
        """Empty the CD drive."""
        self._change_medium(None)
        self._medium.unlink(missing_ok=True)
        self._remember(replace(self.state, medium_url=None))

    def _change_medium(self, path: Path | None) -> None:
        if self._guest is not None:
            self._guest.change_medium(path)

    def _remember(self, state: BoardState) -> None:
        if state != self.state:
            self._keep(state)
            self.state = state

    def _close(self) -> None:
        self._is_closed = True

    def _on_event(self, start: int, event: QmpEvent | None) -> None:
        self.do(partial(self._handle, start, event))

    def _handle(self, start: int, event: QmpEvent | None) -> None:
        if start != self._starts or self._guest is None:
            return
        if event is None:
            # Somebody killed QEMU: a power cut.
            self._note("power cut")
            self.force_off()
        elif event.name == "WATCHDOG":
            # What the timer does to the guest comes as an event of its own.
            self._note(f"watchdog expired: {event.data.get('action')}")
        elif event.name == "SHUTDOWN" and event.data.get("guest"):
            self._note(f"guest went down: {event.data.get('reason')}")
            wants_restart = event.data.get("reason") == "guest-reset" or self._is_restarting
            self.force_off()
            if wants_restart:
                self.power_on()
