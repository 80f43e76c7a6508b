"""JSON-RPC requests to this host's own validator, at a fixed rate, from the host itself: no network and no tunnel in between."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from flash.bench.on_host.open_loop import Bounds, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Cheap, and only looking. What else a client asks for costs very different amounts, and says little of an image.
METHODS = ("getSlot", "getBlockHeight", "getVersion", "getHealth")
ANSWER_BYTES = 1 << 20


def make_body(number: int, methods: tuple[str, ...]) -> bytes:
    """Return the request of that number; methods take turns."""
    request = {"jsonrpc": "2.0", "id": number, "method": methods[number % len(methods)]}
    return json.dumps(request).encode()


def judge_answer(number: int, status: int, body: bytes) -> str:
    """Return why an answer is none, an empty text for a good one."""
    if status != 200:
        return f"HTTP {status}"
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return "no JSON"
    if not isinstance(answer, dict) or answer.get("id") != number:
        return "an answer to something else"
    if "error" in answer:
        error = answer["error"]
        return f"error {error.get('code') if isinstance(error, dict) else '?'}"
    return "" if "result" in answer else "no result"


def sender(host: str, port: int, methods: tuple[str, ...]) -> Callable[[int], Awaitable[str]]:
    """Return what sends one request over a connection of its own."""

    async def send(number: int) -> str:
        body = make_body(number, methods)
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_BYTES)
        except OSError as error:
            return f"no connection: {type(error).__name__}"
        try:
            head = f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            status, content = await _read(reader)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            return f"broken answer: {type(error).__name__}"
        finally:
            writer.close()
        return judge_answer(number, status, content)

    return send


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of an answer whose length is given. Raises `ValueError` for another, and for one that is too long."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
    fields = dict(line.lower().split(":", 1) for line in head[1:] if ":" in line)
    size = int(fields["content-length"]) if "content-length" in fields else -1
    if not 0 <= size <= ANSWER_BYTES:
        raise ValueError("its length is not given, or it is too long")
    return int(head[0].split()[1]), await reader.readexactly(size)


def main(asked: dict[str, Any]) -> None:
    """Run the load that was asked for; each line that is printed is a JSON object, the last one is the result."""
    bounds = Bounds(**asked["bounds"])
    send = sender(asked["host"], int(asked["port"]), tuple(asked["methods"]))
    result = asyncio.run(run(send, bounds, lambda progress: _print({"progress": progress})))
    _print({"result": result})


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
