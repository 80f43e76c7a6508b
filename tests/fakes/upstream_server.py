"""A web server with the shapes of upstreams: redirects to other servers, releases with assets, private assets, broken transfers."""

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

TOKEN = "ghp_thetokenthatnobodymaysee"


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    path: str
    headers: dict[str, str]


@dataclass
class Upstream:
    """What the server has: bodies by path, redirects by path, the paths that want the token, and faults.

    `cut` breaks the connection after so many bytes of a path's next answer. A server that `keeps` connections (HTTP/1.1) counts them;
    one that `drops_silently` closes each after an answer that promised to keep it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    ignores_ranges: bool = False
    keeps: bool = False
    drops_silently: bool = False
    connections: int = 0
    is_tls: bool = False
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [item.path for item in self.seen]

    def tokens(self) -> list[str]:
        """Return every request that carried a token."""
        return [item.path for item in self.seen if "Authorization" in item.headers]

    def add_release(
        self, repository: str, tag: str, assets: dict[str, bytes], *, private: bool = False
    ) -> dict[str, Any]:
        """Add a release as the API of GitHub shows it; a change of the answer's `assets` counts when it is stored again."""
        release: dict[str, Any] = {"tag_name": tag, "assets": []}
        for number, (name, content) in enumerate(assets.items(), 1):
            api, page = f"/repos/{repository}/releases/assets/{number}", f"/{repository}/releases/download/{tag}/{name}"
            self.files[api if private else page] = content
            if private:
                self.private.add(api)
            asset = {"name": name, "size": len(content), "digest": f"sha256:{hashlib.sha256(content).hexdigest()}"}
            quoted = page.replace("+", "%2B")
            release["assets"].append({**asset, "url": self.url + api, "browser_download_url": self.url + quoted})
        path = f"/repos/{repository}/releases/tags/{tag}"
        if private:
            self.private.add(path)
        self.store(path, release)
        return release

    def store(self, path: str, document: Any) -> None:
        self.files[path] = json.dumps(document).encode()


class _Handler(BaseHTTPRequestHandler):
    """Answers from the `Upstream` that made it."""

    upstream: Upstream

    def setup(self) -> None:
        self.upstream.connections += 1
        if self.upstream.keeps:
            self.protocol_version = "HTTP/1.1"
        super().setup()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        self.upstream.seen.append(Seen(path, dict(self.headers)))
        if path in self.upstream.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send_error(404)
        elif path in self.upstream.redirects:
            self.send_response(302)
            self.send_header("Location", self.upstream.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path in self.upstream.files:
            self._send(path, self.upstream.files[path])
        else:
            self.send_error(404)

    def _send(self, path: str, content: bytes) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and not self.upstream.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = self.upstream.cut.pop(path, len(content))
        self.wfile.write(content[start:end])
        if not self.upstream.keeps or self.upstream.drops_silently or end < len(content):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_upstream(*, certificate: Path | None = None) -> Iterator[Upstream]:
    """Serve on a free port of 127.0.0.1 until the end of the `with`; by TLS with a `certificate`, its key in the same file."""
    upstream = Upstream(is_tls=certificate is not None)
    handler = type("Handler", (_Handler,), {"upstream": upstream})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    upstream.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
