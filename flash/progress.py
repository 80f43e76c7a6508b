"""What the agent tells while blobs travel, for people and for the journal."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from qtrade.reporter import Advance, Reporter


class FetchProgress:
    """Takes the agent's events: moves the bar, says which blob has come and how fast, and sums up.

    An agent from before these figures tells `done_bytes` only.
    """

    def __init__(self, reporter: Reporter, advance: Advance, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter = reporter
        self._advance = advance
        self._clock = clock
        self._began: float | None = None
        self._ended = 0.0
        self._whole: dict[str, int] = {}
        self._fastest = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        if event.get("step") == "warning":
            self._reporter.say(f"warning: {event.get('text')}")
        if "done_bytes" not in event:
            return
        self._ended = self._clock()
        self._began = self._began if self._began is not None else self._ended
        self._advance(int(event["done_bytes"]))
        rate, blob = int(event.get("bytes_per_s") or 0), str(event.get("blob"))
        self._fastest = max(self._fastest, rate)
        size = event.get("blob_bytes")
        if size is not None and event.get("blob_done_bytes") == size and blob not in self._whole:
            self._whole[blob] = int(size)
            if event.get("was_there"):
                return
            self._reporter.say(f"  {event.get('role')}: {self._whole[blob] / 1e6:.1f} MB{_rate(rate, event)}")

    def summary(self) -> dict[str, Any]:
        """Return how long it took, in seconds, the blobs that are whole and the best rate of some seconds, for the journal."""
        seconds = self._ended - self._began if self._began is not None else 0.0
        return {"fetch_seconds": round(seconds, 1), "blobs": len(self._whole), "best_bytes_per_s": self._fastest}


def _rate(rate: int, event: Mapping[str, Any]) -> str:
    if not rate:
        return ""
    eta = event.get("eta_s")
    left = f", {eta} s left" if eta else ""
    return f", {rate / 1e6:.1f} MB/s{left}"
