"""Kills QEMU at a random moment of a flash, sees in which state that was, and says what must have come of it."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flash.states import State
from tests.torture.power_cuts import check_health, walk
from tests.torture.tiny_guest import PowerLostError, TinyGuest


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
    """A flash from `old` to `new` whose power was cut in `state`, `delay_s` after the begin of the state `aimed` at."""

    state: State
    old: str
    new: str
    aimed: State
    delay_s: float

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


def kill_in(guest: TinyGuest, timing: Timing, old: str, aimed: State, rng: random.Random) -> Killed | None:
    """Flash another version over `old`, which runs, and cut the power a random time after the begin of the state `aimed` at.

    A state that is quicker than it was is over by then: the cut falls into a later one, and counts there. None when the whole flash was
    quicker, and nothing was cut.
    """
    new = rng.choice([name for name in guest.images.versions if name != old])
    delay = rng.uniform(0, timing.lasting_s[aimed])
    entered: list[State] = []
    fell: list[State] = []

    def cut() -> None:
        fell.append(entered[-1])
        guest.kill()

    timer = threading.Timer(delay, cut)

    def enter(state: State) -> None:
        entered.append(state)
        if state is aimed:
            timer.start()

    if not _is_lost(lambda: walk(guest, old, new, enter), timer):
        timing.lasting_s[aimed] /= 2
        guest.kill()
        return None
    return Killed(fell[0], old, new, aimed, round(delay, 3))


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
