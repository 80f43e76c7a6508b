"""Tells the controller what happens: JSON lines on stdout, and by HTTP POST where the job names an address."""

import hashlib
import hmac
import json
import sys
import time
from typing import Any, Callable, Dict, Iterable, List, Protocol, TextIO, Tuple

from .dsse import canonical
from .errors import AgentError
from .imagelist import Blob

_TRIES = 5
# The rate is taken over so many events.
_MARKS = 10
_HEADERS = {"Content-Type": "application/x-ndjson"}


class Reporter:
    """Sends events. Progress may get lost, the report may not."""

    def __init__(self, url: str = "", stream: TextIO = sys.stdout) -> None:
        self._url = url
        self._stream = stream

    def progress(self, step: str, **facts: Any) -> None:
        """Say that `step` begins or advances."""
        self._send({"event": "progress", "step": step, **facts}, tries=1)

    def report(self, facts: Dict[str, Any], nonce: str) -> None:
        """Send the report, the last line, with its HMAC. Raises `AgentError` when the address does not take it."""
        self._send(sign_report({"event": "report", **facts}, nonce), tries=_TRIES)

    def _send(self, event: Dict[str, Any], tries: int) -> None:
        line = json.dumps(event, sort_keys=True)
        self._stream.write(f"{line}\n")
        self._stream.flush()
        if not self._url:
            return
        from .web import ask  # noqa: PLC0415 - HTTP takes a third of the start of an agent that speaks none

        error = ""
        for attempt in range(tries):
            try:
                with ask(self._url, data=line.encode() + b"\n", headers=_HEADERS, timeout_s=3 if tries == 1 else 10):
                    return
            except AgentError as problem:
                error = problem.message
            if attempt + 1 < tries:
                time.sleep(2**attempt)
        if tries > 1:
            raise AgentError(
                "report-failed", f"{self._url} does not take the report: {error}", "read the state over SSH"
            )


def sign_report(report: Dict[str, Any], nonce: str) -> Dict[str, Any]:
    """Return `report` with `hmac`: HMAC-SHA-256 keyed with the nonce's hex digits as text, over the canonical JSON of the rest."""
    rest = {name: value for name, value in report.items() if name != "hmac"}
    return {**rest, "hmac": hmac.new(nonce.encode(), canonical(rest), hashlib.sha256).hexdigest()}


class Tell(Protocol):
    """Hears how many bytes of a blob are there; `was_there` says that it was whole before."""

    def __call__(self, blob: Blob, done_bytes: int, *, was_there: bool = False) -> None:
        """Take `done_bytes`, all that is there of the blob."""


def tell_fetch(reporter: Reporter, blobs: Iterable[Blob], clock: Callable[[], float] = time.monotonic) -> Tell:
    """Return what a `Fetcher` calls: one event a second at most, and one for every blob that is whole.

    `was_there` says that it had not to travel. `blob_done_bytes` of `blob_bytes` are of the blob, `done_bytes` of `total_bytes` over
    all blobs; `bytes_per_s` is the mean of the last seconds, over what really travelled, and `eta_s` what is left at that rate (null
    while nobody knows).
    """
    total = sum({blob.sha256: blob.size_bytes for blob in blobs}.values())
    done: Dict[str, int] = {}
    marks: List[Tuple[float, int]] = []
    travelled = 0

    def tell(blob: Blob, done_bytes: int, *, was_there: bool = False) -> None:
        nonlocal travelled
        travelled += 0 if was_there else max(done_bytes - done.get(blob.sha256, 0), 0)
        done[blob.sha256] = done_bytes
        now = clock()
        if marks and now - marks[-1][0] < 1 and done_bytes < blob.size_bytes:
            return
        marks.append((now, travelled))
        del marks[:-_MARKS]
        (since, then), passed = marks[0], now - marks[0][0]
        rate = int((travelled - then) / passed) if passed > 0 and since < now else 0
        left = total - sum(done.values())
        reporter.progress(
            "fetch", role=blob.role, blob=blob.sha256, blob_done_bytes=done_bytes, blob_bytes=blob.size_bytes,
            done_bytes=total - left, total_bytes=total, bytes_per_s=rate, eta_s=round(left / rate) if rate else None,
            was_there=was_there,
        )  # fmt: skip

    return tell
