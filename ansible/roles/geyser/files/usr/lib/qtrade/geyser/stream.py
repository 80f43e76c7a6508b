#!/usr/bin/python3 -EsB
"""Prove the Geyser stream of this host: subscribe to slots with the host's own token and see them advance.

Upstream's client takes the token as an argument, where every account of the host can read it; this one reads it from the config that
the plugin was loaded with. With `--without-token` or `--wrong-token` it asks as a stranger would. Prints one JSON document; exit code 0
when slots advanced, 2 when the server refused the token, 1 for everything else.

The messages are the few that this needs of geyser.proto (rpcpool/yellowstone-grpc, yellowstone-grpc-proto, Apache-2.0), written anew.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpack
import http2

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path("/run/yellowstone/config.json")
UNAUTHENTICATED = "16"
WRONG_TOKEN = "not-the-token-of-this-host"  # noqa: S105 - that is its point
# SubscribeRequest{slots: {"qtrade": SubscribeRequestFilterSlots{filter_by_commitment: true}}, commitment: PROCESSED}
SUBSCRIBE = http2.write_field(
    2, http2.write_field(1, b"qtrade") + http2.write_field(2, http2.write_field(1, 1))
) + http2.write_field(6, 0)


@dataclass(frozen=True)
class Server:
    """Where the plugin listens, and how to get in."""

    host: str
    port: int
    path: str
    token: str | None
    is_tls: bool


@dataclass
class Outcome:
    """What the stream told."""

    slots: list[int] = field(default_factory=list)
    status: str | None = None
    message: str = ""


def read_server(config: dict[str, Any]) -> Server:
    """Return the first listener of the plugin's config: a socket by its path, all addresses over loopback."""
    grpc = config["grpc"]
    listener = grpc["listen"][0]
    is_tls, token = bool(listener.get("tls")), grpc.get("x_token")
    if listener["address"].startswith("unix://"):
        return Server("localhost", 0, listener["address"].removeprefix("unix://"), token, is_tls)
    host, _, port = listener["address"].rpartition(":")
    host = host.strip("[]")
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return Server(reached, int(port), "", token, is_tls)


def open_connection(server: Server, timeout_s: float) -> socket.socket:
    """Connect, through TLS if the plugin serves it. The certificate is the host's own and names its public name: it is not checked."""
    if server.path:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(server.path)
    else:
        connection = socket.create_connection((server.host, server.port), timeout=timeout_s)
    if not server.is_tls:
        return connection
    import ssl  # noqa: PLC0415 - slow to load, and most hosts serve loopback without it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection)


def make_call(server: Server, method: str, token: str | None, body: bytes) -> bytes:
    """Return the bytes that open a connection and make one call on stream 1."""
    headers = [
        (":method", "POST"),
        (":scheme", "https" if server.is_tls else "http"),
        (":path", f"/geyser.Geyser/{method}"),
        (":authority", f"{server.host}:{server.port}"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *([("x-token", token)] if token else []),
    ]
    return (
        http2.PREFACE
        + http2.make_frame(http2.SETTINGS, 0, 0)
        + http2.make_frame(http2.HEADERS, http2.END_HEADERS, 1, hpack.encode(headers))
        + http2.make_frame(http2.DATA, 0, 1, http2.make_message(body))
    )


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Return `size` bytes. Raises `ConnectionError` when the other side closes first."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the server closed the connection")
        data += part
    return data


def read_frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Yield (kind, flags, payload) of frames as they come; those of the connection itself are answered."""
    while True:
        size, kind, flags, _ = http2.parse_head(read_exactly(connection, http2.HEAD_BYTES))
        payload = read_exactly(connection, size)
        if kind == http2.SETTINGS and not flags & http2.ACK:
            connection.sendall(http2.make_frame(http2.SETTINGS, http2.ACK, 0))
        elif kind == http2.PING and not flags & http2.ACK:
            connection.sendall(http2.make_frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.DATA and size:
            grown = size.to_bytes(4, "big")
            connection.sendall(b"".join(http2.make_frame(http2.WINDOW_UPDATE, 0, stream, grown) for stream in (0, 1)))
        if kind in (http2.GOAWAY, http2.RST_STREAM):
            raise ConnectionError("the server ended the stream")
        yield kind, flags, payload


def watch(connection: socket.socket, seconds: float, wanted: int) -> Outcome:
    """Collect processed slots until there are `wanted` different ones, the server ends the call, or the time is up."""
    outcome, decoder, messages = Outcome(), hpack.Decoder(), http2.MessageReader()
    deadline = time.monotonic() + seconds
    for kind, flags, payload in read_frames(connection):
        if kind == http2.DATA:
            for message in messages.feed(http2.strip_frame(kind, flags, payload)):
                outcome.slots += [slot for slot in read_slots(message) if slot not in outcome.slots]
        elif kind == http2.HEADERS:
            headers = dict(decoder.decode(http2.strip_frame(kind, flags, payload)))
            outcome.status = headers.get("grpc-status", outcome.status)
            outcome.message = headers.get("grpc-message", outcome.message)
        is_over = flags & http2.END_STREAM and kind in (http2.DATA, http2.HEADERS)
        if is_over or len(outcome.slots) >= wanted or time.monotonic() > deadline:
            return outcome
    return outcome


def read_slots(message: bytes) -> Iterator[int]:
    """Yield the slots of a SubscribeUpdate: field 3 is a SubscribeUpdateSlot, whose field 1 is the slot."""
    for number, value in http2.read_fields(message):
        if number == 3 and isinstance(value, bytes):
            yield from (slot for inner, slot in http2.read_fields(value) if inner == 1 and isinstance(slot, int))


def judge(outcome: Outcome) -> tuple[int, dict[str, Any]]:
    """Return exit code and document."""
    document = {"slots": outcome.slots, "status": outcome.status, "message": outcome.message}
    if outcome.status == UNAUTHENTICATED:
        return 2, {"ok": False, "refused": True, **document}
    is_moving = len(outcome.slots) > 1 and outcome.slots[-1] > outcome.slots[0]
    return 0 if is_moving else 1, {"ok": is_moving, "refused": False, **document}


def parse_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description="Prove the Geyser stream of this host.", allow_abbrev=False)
    stranger = parser.add_mutually_exclusive_group()
    stranger.add_argument("--without-token", action="store_true")
    stranger.add_argument("--wrong-token", action="store_true")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--seconds", type=float, default=30)
    return parser.parse_args()


def main() -> int:
    """Run the proof; return the exit code."""
    arguments = parse_arguments()
    try:
        server = read_server(json.loads(arguments.config.read_text()))
        token = None if arguments.without_token else WRONG_TOKEN if arguments.wrong_token else server.token
        with open_connection(server, arguments.seconds) as connection:
            connection.sendall(make_call(server, "Subscribe", token, SUBSCRIBE))
            code, document = judge(watch(connection, arguments.seconds, wanted=3))
            document["has_token"] = server.token is not None
    except (OSError, ValueError, LookupError) as error:
        code, document = 1, {"ok": False, "refused": False, "message": f"{type(error).__name__}: {error}"}
    print(json.dumps(document))  # noqa: T201 - the result
    return code


if __name__ == "__main__":
    sys.exit(main())
