"""Kills QEMU at a random moment of a chosen state, sees whether it really fell there, and says what must have come of it."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flash.states import State
from tests.torture.power_cuts import check_health, walk
from tests.torture.tiny_guest import PowerLostError, TinyGuest

_TRIES = 5


@dataclass
class Timing:
    """When states were entered; what a state takes is learnt from walks that nobody cut."""

    lasting_s: dict[State, float] = field(default_factory=dict)
    entered: list[tuple[State, float]] = field(default_factory=list)

    def enter(self, state: State) -> None:
        self.entered.append((state, time.monotonic()))

    def learn(self) -> None:
        """Take what a whole walk took, which has just ended."""
        ends = [at for _, at in self.entered[1:]] + [time.monotonic()]
        for (state, begin), end in zip(self.entered, ends, strict=True):
            self.lasting_s[state] = end - begin


@dataclass(frozen=True)
class Killed:
    """A flash from `old` to `new` whose power was cut in `state`, `delay_s` after its begin, at the `tries`-th attempt."""

    state: State
    old: str
    new: str
    delay_s: float
    tries: int

    def outcomes(self) -> set[tuple[str, str]]:
        """Return which versions may run afterwards, each with the default that it may run with."""
        kept, tried, moved = (self.old, self.old), (self.new, self.old), (self.new, self.new)
        match self.state:
            case State.ARMED | State.REBOOTING:
                return {kept, tried}
            case State.COMMITTED:
                return {kept, moved}
        # Not armed yet; and in CONFIGURED the one boot of the new version is used up.
        return {kept}


def come_back(guest: TinyGuest, killed: Killed) -> tuple[str, dict[str, Any]]:
    """Boot after the cut and check what came of it; return the version that runs, and its status."""
    guest.start()
    status = guest.hello()
    running = check_health(guest, status, {killed.old, killed.new})
    default = guest.images.name_of(status["default"])
    assert (running, default) in killed.outcomes(), f"{running} runs, {default} is the default, after {killed}"
    assert status["once"] == "", f"once is left over after {killed}"
    return running, status


def settle(guest: TinyGuest, status: dict[str, Any]) -> str:
    """Commit the version that runs if it is on trial, as the same flash would; return it."""
    if status["image"] != status["default"]:
        status = guest.run(guest.jobs.commit(status["image"]))["status"]
    assert status["image"] == status["default"]
    return guest.images.name_of(status["image"])


def kill_in(guest: TinyGuest, timing: Timing, old: str, state: State, rng: random.Random) -> Killed:
    """Flash another version over `old`, which runs, and cut the power in `state`.

    A state that was over too soon is tried again, from what the host is by then.
    """
    for number in range(1, _TRIES + 1):
        new = rng.choice([name for name in guest.images.versions if name != old])
        delay = rng.uniform(0, timing.lasting_s[state])
        if _cut_at(guest, old, new, state, delay):
            return Killed(state, old, new, round(delay, 3), number)
        guest.kill()
        guest.start()
        status = guest.hello()
        check_health(guest, status, {old, new})
        old = settle(guest, status)
    raise AssertionError(f"in {_TRIES} tries no cut fell into {state}")


def _cut_at(guest: TinyGuest, old: str, new: str, wanted: State, delay: float) -> bool:
    """Say whether the power went in the state `wanted`, `delay` seconds after its begin."""
    entered: list[State] = []
    timer = threading.Timer(delay, guest.kill)

    def enter(state: State) -> None:
        entered.append(state)
        if state is wanted:
            timer.start()

    return _is_lost(lambda: walk(guest, old, new, enter), timer) and entered[-1] is wanted


def _is_lost(work: Callable[[], object], timer: threading.Timer) -> bool:
    try:
        work()
    except PowerLostError:
        return True
    else:
        return False
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()


def kill_installer(guest: TinyGuest, version: str, delay: float) -> str:
    """Install `version` from the network over what is there, and cut the power `delay` seconds after the agent began to write.

    Returns the last step that the agent told of.
    """
    job = guest.install_job(version)
    guest.reports.clear()
    timer = threading.Timer(delay, guest.kill)
    guest.start(installer=job)
    deadline = time.monotonic() + 120
    while not any(line.get("step") == "partition" for line in guest.reports):
        assert time.monotonic() < deadline, "the agent did not begin to write"
        time.sleep(0.01)
    timer.start()
    lost = _is_lost(lambda: guest.wait_installed(job), timer)
    guest.kill()
    return str(guest.reports[-1].get("step")) if lost else "report"
