"""Look again and again, at fixed times, until somebody ends it."""

import time
from collections.abc import Callable, Iterator

from flash.drift.look import HostReport

Look = Callable[[], tuple[HostReport, ...]]


def watch(
    look: Look,
    *,
    every_s: float,
    rounds: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[HostReport, ...]]:
    """Yield the reports of each round; `rounds` of them, or until Ctrl-C, which ends it after the round that was yielded last.

    Rounds begin `every_s` seconds apart; one that takes longer is followed at once by the next, and none is made up for.
    """
    done = 0
    try:
        while rounds is None or done < rounds:
            start = clock()
            yield look()
            done += 1
            if done != rounds:
                sleep(max(0.0, start + every_s - clock()))
    except KeyboardInterrupt:
        return
