"""Tells the controller what happens: JSON lines on stdout, and by HTTP POST where the job names an address."""

import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, TextIO

from .dsse import canonical
from .errors import AgentError
from .imagelist import Blob

_TRIES = 5


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
        print(line, file=self._stream, flush=True)
        if not self._url:
            return
        error = ""
        for attempt in range(tries):
            request = urllib.request.Request(  # noqa: S310 - the job allows http and https only
                self._url, data=line.encode() + b"\n", headers={"Content-Type": "application/x-ndjson"}
            )
            try:
                with urllib.request.urlopen(request, timeout=10):  # noqa: S310
                    return
            except (OSError, urllib.error.URLError) as problem:
                error = str(problem)
            if attempt + 1 < tries:
                time.sleep(2**attempt)
        if tries > 1:
            raise AgentError("report-failed", f"{self._url} does not take the report: {error}", "read the state over SSH")


def sign_report(report: Dict[str, Any], nonce: str) -> Dict[str, Any]:
    """Return `report` with `hmac`: HMAC-SHA-256 keyed with the nonce's hex digits as text, over the canonical JSON of the rest."""
    rest = {name: value for name, value in report.items() if name != "hmac"}
    return {**rest, "hmac": hmac.new(nonce.encode(), canonical(rest), hashlib.sha256).hexdigest()}


def tell_fetch(reporter: Reporter) -> Callable[[Blob, int], None]:
    """Return what a `Fetcher` calls: tells one event per tenth of a blob, which can be hundreds of MiB."""
    reached: Dict[str, int] = {}

    def tell(blob: Blob, done: int) -> None:
        tenth = done * 10 // max(blob.size_bytes, 1)
        if reached.get(blob.sha256) != tenth:
            reached[blob.sha256] = tenth
            reporter.progress("fetch", blob=blob.sha256, role=blob.role, done=done, size=blob.size_bytes)

    return tell
