"""Tells the controller what happens: JSON lines on stdout, and by HTTP POST where the job names an address."""

import hashlib
import hmac
import json
import sys
import time
from typing import Any, Callable, Dict, TextIO

from .dsse import canonical
from .errors import AgentError
from .imagelist import Blob
from .web import ask

_TRIES = 5
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


def tell_fetch(reporter: Reporter) -> Callable[[Blob, int], None]:
    """Return what a `Fetcher` calls: one event per tenth of a blob; `done_bytes` counts over all blobs of the image."""
    done: Dict[str, int] = {}
    told: Dict[str, int] = {}

    def tell(blob: Blob, blob_bytes: int) -> None:
        done[blob.sha256] = blob_bytes
        tenth = blob_bytes * 10 // max(blob.size_bytes, 1)
        if told.get(blob.sha256) != tenth:
            told[blob.sha256] = tenth
            reporter.progress("fetch", role=blob.role, blob=blob.sha256, done_bytes=sum(done.values()))

    return tell
