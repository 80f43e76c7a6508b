"""SSH remote forwards: how a host reaches the flash's server through the connection that it is told what to do over."""

import secrets
from dataclasses import dataclass

from flash.netboot.server import FlashServer

# On the host's loopback; nothing of ours listens there, and no range of the validator is near.
_PORTS = range(42000, 43000)


@dataclass(frozen=True)
class Tunnel:
    """The argument of ssh's `-R`, and the server's URL as the host then sees it."""

    forward: str
    url: str


def tunnel_to(server: FlashServer, port: int | None = None) -> Tunnel:
    """Return a tunnel to `server` from a port of the host's loopback, a random one if none is given."""
    port = port or pick_port()
    return Tunnel(f"127.0.0.1:{port}:{server.listens_on}:{server.port}", f"http://127.0.0.1:{port}")


def pick_port() -> int:
    """Return a port for the host's end of a tunnel."""
    return secrets.choice(_PORTS)
