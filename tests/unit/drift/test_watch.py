"""Rounds: when they begin, and how they end."""

import pytest

from flash.drift.watch import watch
from tests.fakes.drift_reports import finding, report

pytestmark = pytest.mark.unit


class Clock:
    """Time that only `sleep` and a look move."""

    def __init__(self, looks_s: float) -> None:
        self.now, self.looks_s = 0.0, looks_s
        self.began: list[float] = []
        self.slept: list[float] = []

    def look(self):
        self.began.append(self.now)
        self.now += self.looks_s
        return (report(finding()),)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(("looks_s", "began"), [(2, [0, 30, 60]), (40, [0, 40, 80])])
def test_rounds_begin_at_their_times_and_none_is_made_up_for(looks_s, began) -> None:
    clock = Clock(looks_s)
    assert len(list(watch(clock.look, every_s=30, rounds=3, clock=lambda: clock.now, sleep=clock.sleep))) == 3
    assert clock.began == began
    assert len(clock.slept) == 2


@pytest.mark.parametrize("place", ["look", "sleep"])
def test_ctrl_c_ends_it_after_the_last_whole_round(place) -> None:
    clock = Clock(1)

    def interrupt(*_: object) -> object:
        if len(clock.began) < 2:
            return clock.look() if place == "look" else clock.sleep(1)
        raise KeyboardInterrupt

    parts = {"look": clock.look, "sleep": clock.sleep, place: interrupt}
    rounds = list(watch(parts["look"], every_s=30, clock=lambda: clock.now, sleep=parts["sleep"]))
    assert len(rounds) == 2
