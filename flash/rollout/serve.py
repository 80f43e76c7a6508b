"""The live page and the metrics of rollouts, over HTTP: it reads the store, and so shows rollouts that run elsewhere. It changes nothing.

GET /                 the environments        GET /<environment>    its rollout, kept up to date
GET /metrics          for Prometheus          GET /<environment>?part=main    what changes of it
"""

import html
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from flash.inventory import list_environments
from flash.rollout.metrics import CONTENT_TYPE, render_metrics
from flash.rollout.page import CONTENT_SECURITY, render_main, render_page
from flash.rollout.status import RolloutStatus, read_status
from qtrade.errors import ConflictError, NotFound
from qtrade.settings import Settings

_FRESH_S = 1.0
_HTML = "text/html; charset=utf-8"


class RolloutServer:
    """Serves on `listen`:`port` (0: any free port); a context manager."""

    def __init__(self, settings: Settings, listen: str, port: int) -> None:
        self._settings = settings
        self._looking = threading.Lock()
        self._seen: dict[str, tuple[float, RolloutStatus | None]] = {}
        try:
            self._server = _Server((listen, port), self)
        except OSError as error:
            raise ConflictError(
                f"{listen}:{port} cannot be listened on: {error.strerror}", resolution="choose another port"
            ) from error
        self.url = f"http://{listen}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="rollouts", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environments(self) -> tuple[str, ...]:
        """Return the project's environments."""
        return list_environments(self._settings)

    def look(self, environment: str) -> RolloutStatus | None:
        """Return how the environment's rollout stands, read from the store once a second at most; None where there was none."""
        with self._looking:
            at, status = self._seen.get(environment, (0.0, None))
            if time.monotonic() - at > _FRESH_S or environment not in self._seen:
                try:
                    status = read_status(self._settings, environment)
                except NotFound:
                    status = None
                self._seen[environment] = (time.monotonic(), status)
        return status


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], rollouts: RolloutServer) -> None:
        self.rollouts = rollouts
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer a page, a part of one, or the metrics."""
        parts, rollouts = urlsplit(self.path), self.server.rollouts
        name, now = parts.path.strip("/"), time.time()
        known = rollouts.environments()
        if name == "":
            links = "".join(f'<li><a href="/{html.escape(one)}">{html.escape(one)}</a></li>' for one in known)
            self._send(
                f"<!DOCTYPE html><title>qtrade rollouts</title><h1>Rollouts</h1><ul>{links}</ul>".encode(), _HTML
            )
        elif name == "metrics":
            self._send(render_metrics(lambda: {one: rollouts.look(one) for one in known}), CONTENT_TYPE)
        elif name in known:
            render = render_main if parse_qs(parts.query).get("part") == ["main"] else render_page
            self._send(render(name, rollouts.look(name), now=now).encode(), _HTML)
        else:
            self._send(b"there is no such page\n", "text/plain", HTTPStatus.NOT_FOUND)

    def log_message(self, *_: object) -> None:
        """Say nothing: nobody reads who looked."""

    def _send(self, content: bytes, kind: str, code: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(code)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", CONTENT_SECURITY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
