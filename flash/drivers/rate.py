"""A token bucket per provider account, shared by all processes that use one state directory."""

import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path

_LONGEST_PAUSE_S = 300.0


class TokenBucket:
    """Lets `burst` requests go at once and `per_s` in the long run.

    No provider's limits are known but Hetzner Robot's (facts: flashing, 5), so the figures are ours, far below what a
    person with a browser causes. `path` None keeps the level in this object only. `clock` is wall time, as processes share it.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        per_s: float = 2.0,
        burst: int = 10,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._kept = (float(burst), clock())

    def take(self) -> None:
        """Wait for a token. The place in the queue is taken at once, so that processes do not overtake each other."""
        level = self._change(lambda level: level - 1)
        if level < 0:
            self._sleep(-level / self._per_s)

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long: the provider said that it is too much."""
        lowest = -min(seconds, _LONGEST_PAUSE_S) * self._per_s
        self._change(lambda level: min(level, lowest))

    def _change(self, change: Callable[[float], float]) -> float:
        if self._path is None:
            level = change(self._refilled(*self._kept))
            self._kept = (level, self._clock())
            return level
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            try:
                level, at = map(float, json.loads(file.read()))
            except (ValueError, TypeError):
                level, at = float(self._burst), self._clock()
            level = change(self._refilled(level, at))
            file.truncate(0)
            file.write(json.dumps([level, self._clock()]))
        return level

    def _refilled(self, level: float, at: float) -> float:
        # A clock that went back gives nothing and takes nothing.
        return min(float(self._burst), level + max(0.0, self._clock() - at) * self._per_s)
