"""A server on the loopback that takes webhooks, and keeps them as they came."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.fakes.loopback import QuietHandler, serve_on_loopback


@dataclass
class WebhookServer:
    """What is served at `url`; `statuses` are the answers to come, 200 when there are none."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def serve_webhook() -> Iterator[WebhookServer]:
    """Serve until the block ends."""
    served = WebhookServer()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            served.taken.append((dict(self.headers.items()), body))
            self.send_response(served.statuses.pop(0) if served.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serve_on_loopback(Handler) as url:
        served.url = f"{url}/drift"
        yield served
