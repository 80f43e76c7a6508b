"""The simulated fleet in a process of its own, over HTTP: it goes on while controllers are killed.

`python -m tests.fakes.rollout.server SPEC` prints its port, and ends with its standard input.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.rollout.fleet import Fault, Fleet, Rules, TooMany, describe, make_members


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fleet: Fleet

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_GET(self) -> None:
        self._answer(b"")

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        time.sleep(self.fleet.rules.latency_s)
        parts = urlsplit(self.path)
        try:
            code, document = 200, self._do(parts.path, parse_qs(parts.query), body)
        except TooMany:
            code, document = 429, {}
        content = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _do(self, path: str, query: dict[str, list[str]], body: bytes) -> Any:
        match path:
            case "/begin":
                self.fleet.begin(query["host"][0], query["version"][0], query["job"][0])
                return {}
            case "/status":
                return self.fleet.status(query["host"][0])
            case "/errors":
                return {name: self.fleet.errors(name) for name in json.loads(body)}
            case "/end":
                return self.fleet.end_state()
            case _:
                return describe(self.fleet)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that were killed: that is what they are for."""


def main() -> None:
    """Serve until nobody holds our standard input any more."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    fault = Fault(**spec["fault"]) if spec.get("fault") else None
    rules = Rules(**{**spec.get("rules", {}), "dead": tuple(spec.get("dead", ())), "fault": fault})
    _Handler.fleet = Fleet(make_members(spec["count"], rare=spec.get("rare", 0)), rules)
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
