"""Kills QEMU at a random moment of a chosen state, and sees whether it really fell there."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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


def kill_in(guest: TinyGuest, timing: Timing, old: str, new: str, state: State, rng: random.Random) -> float:
    """Flash `new` over `old`, which runs, and cut the power in `state`; return how many seconds after its begin.

    A state that was over too soon is tried again, from a host that has booted anew.
    """
    for _ in range(_TRIES):
        delay = rng.uniform(0, timing.lasting_s[state])
        if _cut_at(guest, old, new, state, delay):
            return delay
        guest.kill()
        guest.start()
        old = check_health(guest, guest.hello(), {old, new})
        new = next(name for name in guest.images.versions if name != old)
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
