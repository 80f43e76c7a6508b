"""Requests at a fixed rate, whether or not the earlier ones were answered, timed from when each was due.

A closed loop waits for slow answers and so asks less while they are slow, which hides them (coordinated omission). Here a request that is
sent late is timed from when it was due, and one that finds too many others under way is a failure.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

QUANTILES = (0.5, 0.9, 0.99, 0.999)
# Whoever sends this much later than it should has no processor left, and measures itself.
_LATE_S = 0.1
_LATE_SHARE = 0.01
# Before so many requests a few failures are a large share.
_ENOUGH = 20
_TELL_S = 1.0


@dataclass(frozen=True)
class Bounds:
    """How much is sent: `rps` a second for `seconds`. The first `warm_up_s` are sent, and not timed.

    A share of failures above `error_share` ends it, and so does the end of the time and `answer_s` after it.
    """

    rps: float
    seconds: float
    warm_up_s: float = 0.0
    in_flight: int = 64
    error_share: float = 0.01
    answer_s: float = 5.0

    @property
    def total(self) -> int:
        """Return how many requests that are."""
        return max(math.floor(self.rps * self.seconds + 1e-9), 1)

    def due_s(self, number: int) -> float:
        """Return when a request is due, in seconds from the start."""
        return number / self.rps


@dataclass
class Tally:
    """What came of the requests: latencies in seconds of those that were answered and count, reasons of the others."""

    latencies: array[float] = field(default_factory=lambda: array("d"))
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    late: int = 0
    sent: int = 0

    @property
    def done(self) -> int:
        """Return how many have come to an end."""
        return self.answered + self.failures.total()

    @property
    def error_share(self) -> float:
        """Return the share of failures among those that have come to an end."""
        return self.failures.total() / self.done if self.done else 0.0

    def is_beyond(self, error_share: float) -> bool:
        """Whether so many have failed that going on would only do harm."""
        return self.done >= _ENOUGH and self.error_share > error_share


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the sorted values do not exceed (nearest rank). Raises `ValueError` for none."""
    if not ordered:
        raise ValueError("there are no values")
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def summarize(latencies: Sequence[float]) -> dict[str, float]:
    """Return the quantiles and the maximum in milliseconds, exact: `p50_ms` to `p999_ms`, `max_ms`; nothing where there are no values."""
    if not latencies:
        return {}
    ordered = sorted(latencies)
    found = {f"p{str(share)[2:].ljust(2, '0')}_ms": quantile(ordered, share) * 1000 for share in QUANTILES}
    return {name: round(value, 3) for name, value in {**found, "max_ms": ordered[-1] * 1000}.items()}


async def run(
    send: Callable[[int], Awaitable[str]], bounds: Bounds, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Send all requests and return the result. `send` gives an empty text for an answer, else why there was none; it is never to raise.

    `tell` gets, once a second, how far it is.
    """
    load = _Load(send, bounds, asyncio.get_running_loop().time)
    told = load.start
    while not load.is_over():
        await load.step()
        if load.now() - told >= _TELL_S:
            told = load.now()
            tell(_progress(load.tally, bounds, told - load.start))
    await load.end()
    return _result(load.tally, bounds, load.now() - load.start, load.ended)


class _Load:
    """One load: sends what is due, and counts what comes of it. `ended` says why it stopped before its time."""

    def __init__(self, send: Callable[[int], Awaitable[str]], bounds: Bounds, now: Callable[[], float]) -> None:
        self._send, self._bounds, self.now = send, bounds, now
        self._tasks: set[asyncio.Task[None]] = set()
        self.tally = Tally()
        self.start = now()
        self.ended = ""

    def is_over(self) -> bool:
        """Whether all is sent, or nothing more is to be."""
        bounds, tally = self._bounds, self.tally
        if tally.is_beyond(bounds.error_share):
            self.ended = f"more than {bounds.error_share:.1%} failed"
        elif self.now() - self.start > bounds.seconds + bounds.answer_s:
            self.ended = "the time was over before all was sent"
        return bool(self.ended) or tally.sent >= bounds.total

    async def step(self) -> None:
        """Wait until the next request is due, and send it."""
        number = self.tally.sent
        due = self.start + self._bounds.due_s(number)
        # Behind its time nothing is waited for, but answers still have to be read.
        await asyncio.sleep(max(due - self.now(), 0))
        self.tally.late += self.now() - due > _LATE_S
        self.tally.sent += 1
        if len(self._tasks) >= self._bounds.in_flight:
            self.tally.failures["too many others under way"] += 1
            return
        task = asyncio.create_task(self._one(number, due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Wait for the last answers; after a stop nobody waits for any."""
        if self.ended:
            for task in tuple(self._tasks):
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, number: int, due: float) -> None:
        try:
            reason = await asyncio.wait_for(self._send(number), self._bounds.answer_s)
        except TimeoutError:
            reason = "no answer in time"
        if reason:
            self.tally.failures[reason] += 1
            return
        self.tally.answered += 1
        if due - self.start >= self._bounds.warm_up_s:
            self.tally.latencies.append(self.now() - due)


def _progress(tally: Tally, bounds: Bounds, seconds: float) -> dict[str, Any]:
    left = max(bounds.seconds - seconds, 0.0)
    failed = tally.failures.total()
    return {"sent": tally.sent, "total": bounds.total, "failed": failed, "left_s": round(left, 1)}


def _result(tally: Tally, bounds: Bounds, seconds: float, ended: str) -> dict[str, Any]:
    reasons = [ended] if ended else []
    if not ended and tally.error_share > bounds.error_share:
        reasons.append(f"{tally.error_share:.1%} failed, {bounds.error_share:.1%} may")
    if tally.late > tally.sent * _LATE_SHARE:
        reasons.append(
            f"{tally.late} of {tally.sent} requests were sent late: what sends them was too slow for this rate"
        )
    if not ended and tally.done < tally.sent:
        reasons.append(f"{tally.sent - tally.done} of {tally.sent} requests came to no end")
    if not tally.latencies and not reasons:
        reasons.append("nothing was timed: the load ended with its warm-up")
    return {
        "sent": tally.sent,
        "answered": tally.answered,
        "late": tally.late,
        "failures": dict(tally.failures.most_common(5)),
        "error_share": round(tally.error_share, 6),
        "seconds": round(seconds, 3),
        "achieved_rps": round(tally.answered / seconds, 3) if seconds else 0.0,
        "latency": summarize(tally.latencies),
        "reasons": reasons,
    }
