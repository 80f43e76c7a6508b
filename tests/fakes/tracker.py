"""A server with data of the shape of the Debian security tracker, on the loopback; it can misbehave."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def issue(
    status: str = "open", fixed: str = "", urgency: str = "not yet assigned", suite: str = "trixie"
) -> dict[str, Any]:
    """Return what the tracker says of one CVE in one source package."""
    release = {"status": status, "urgency": urgency, "repositories": {suite: "1"}}
    if fixed:
        release["fixed_version"] = fixed
    return {"scope": "local", "description": "A flaw.", "releases": {suite: release, "sid": {**release}}}


@dataclass
class TrackerServer:
    """What is served at `url`. `fault` is one of: truncated, bad-gzip, garbage, html, error, redirect."""

    document: Any
    url: str = ""
    fault: str = ""
    gzipped: bool = True
    modified: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return json.dumps(self.document).encode()

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append({"path": handler.path, **dict(handler.headers.items())})
        if self.fault == "error":
            handler.send_error(503)
        elif self.fault == "redirect" and handler.path != "/moved":
            handler.send_response(302)
            handler.send_header("Location", "/moved")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif handler.headers.get("If-None-Match") == self.etag:
            handler.send_response(304)
            self._send_times(handler)
            handler.end_headers()
        else:
            self._send(handler)

    def _send(self, handler: BaseHTTPRequestHandler) -> None:
        content = {"garbage": b"\x00\xff nothing", "html": b"<html>maintenance</html>"}.get(self.fault, self.body)
        sent = gzip.compress(content) if self.gzipped else content
        length = len(sent)
        if self.fault == "truncated":
            sent = sent[: length // 2]
        if self.fault == "bad-gzip":
            sent = sent[:-20] + bytes(20)
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.send_header("ETag", self.etag)
        if self.gzipped:
            handler.send_header("Content-Encoding", "gzip")
        self._send_times(handler)
        handler.end_headers()
        handler.wfile.write(sent)

    def _send_times(self, handler: BaseHTTPRequestHandler) -> None:
        if self.modified:
            handler.send_header("Last-Modified", self.modified)


@contextmanager
def serve_tracker(document: Any) -> Iterator[TrackerServer]:
    """Serve `document` for as long as the `with` lasts."""
    tracker = TrackerServer(document)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tracker.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    tracker.url = f"http://127.0.0.1:{server.server_port}/tracker/data/json"
    try:
        yield tracker
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
