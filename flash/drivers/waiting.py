"""Waiting for a provider: bounded, told to people, and never content with an old status.

Providers show the status from before an action for a while after they accepted it. Latitude's own Terraform provider
believes a final status only after it saw another one (server_ready.go, isReinstallTerminal); so do we, everywhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from qtrade.errors import HostError

_State = TypeVar("_State")


@dataclass(frozen=True)
class Pace:
    """How often to ask: after `first_s`, then ever less, at least every `longest_s`. `backoff_s` is doubled after each failure."""

    first_s: float = 2.0
    factor: float = 1.3
    longest_s: float = 10.0
    backoff_s: float = 0.5


class Waiting:
    """Asks until an answer will do. `say` tells people every change; `clock` and `sleep` are for tests."""

    def __init__(
        self,
        *,
        say: Callable[[str], None] = lambda _: None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.pace = pace or Pace()
        self.clock = clock
        self.sleep = sleep
        self._say = say

    def until(
        self, read: Callable[[], _State], accept: Callable[[_State], bool], *, what: str, within_s: float
    ) -> _State:
        """Return the first state that `accept` takes. Raises `HostError` once `within_s` have passed."""
        deadline = self.clock() + within_s
        pause, last = self.pace.first_s, None
        while True:
            state = read()
            if state != last:
                self._say(f"{what}: {state}")
                last = state
            if accept(state):
                return state
            if self.clock() >= deadline:
                raise HostError(
                    f"{what}: not seen within {within_s:.0f} s",
                    details=f"the provider's API says {state} now",
                    resolution="look at the server in the provider's portal; the same command goes on from there",
                )
            self.sleep(min(pause, max(0.0, deadline - self.clock())))
            pause = min(pause * self.pace.factor, self.pace.longest_s)


def once(accept: Callable[[_State], bool]) -> Callable[[_State], bool]:
    """Return an `accept` that says yes for ever after its first yes: a status that shows briefly need be seen only once."""
    was_seen = False

    def judge(state: _State) -> bool:
        nonlocal was_seen
        was_seen = was_seen or accept(state)
        return was_seen

    return judge
