"""Requests to servers that answer oddly: each answer is a failure with its reason, none breaks the load, none fills the memory."""

import asyncio
import json

import httpx
import pytest

from flash.bench import rpc_from_here
from flash.bench.guard import LoadOrder
from flash.bench.load import rpc_bounds
from flash.bench.on_host.open_loop import Bounds
from flash.bench.on_host.rpc import ANSWER_BYTES, METHODS, judge_answer, make_body, sender

pytestmark = pytest.mark.unit

GOOD = b'{"jsonrpc": "2.0", "id": 0, "result": 7}'


def http(body: bytes, status: str = "200 OK", head: str | None = None) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if head is None else head
    return f"HTTP/1.1 {status}\r\n{length}\r\n".encode() + body


async def ask(answer: bytes) -> str:
    """Send one request to a server that says `answer` and closes."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        said = await sender("127.0.0.1", port, METHODS)(0)
    assert asked, "nobody asked"
    return said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(GOOD), ""),
        (http(GOOD, "503 Service Unavailable"), "HTTP 503"),
        (b"", "broken answer: IncompleteReadError"),
        (b"no http at all\r\n\r\n", "broken answer: ValueError"),
        (http(GOOD, head=""), "broken answer: ValueError"),
        (http(GOOD, head="Content-Length: -4\r\n"), "broken answer: ValueError"),
        (http(GOOD, head="Content-Length: many\r\n"), "broken answer: ValueError"),
        (http(GOOD, head=f"Content-Length: {ANSWER_BYTES + 1}\r\n"), "broken answer: ValueError"),
        (http(GOOD, head="Content-Length: 999\r\n"), "broken answer: IncompleteReadError"),
        (http(b"x" * 40), "no JSON"),
        (http(b'{"id": 0, "error": {"code": -32005, "message": "behind"}}'), "error -32005"),
        (http(b'{"id": 0, "error": "odd"}'), "error ?"),
        (http(b'{"id": 1, "result": 7}'), "an answer to something else"),
        (http(b'{"id": 0}'), "no result"),
    ],
)
def test_an_answer_is_good_or_has_a_reason(answer, said) -> None:
    assert asyncio.run(ask(answer)) == said


def test_nested_answers_are_no_way_to_break_it() -> None:
    assert judge_answer(0, 200, b"[" * 100_000) == "no JSON"


def test_methods_take_turns() -> None:
    asked = [json.loads(make_body(number, METHODS))["method"] for number in range(8)]
    assert asked == [*METHODS, *METHODS]


def test_bounds_follow_from_the_order() -> None:
    assert rpc_bounds(LoadOrder(seconds=5, rps=10), 0.05) == Bounds(10, 5, 0.5, 64, 0.05)
    assert rpc_bounds(LoadOrder(seconds=600, rps=400), 0.01) == Bounds(400, 600, 2.0, 200, 0.01)
    assert rpc_bounds(LoadOrder(seconds=600, rps=5000), 0.01).in_flight == 512


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(200, stream=httpx.ByteStream(GOOD)), {}),
        (httpx.Response(302, headers={"location": "http://192.0.2.1/"}, stream=httpx.ByteStream(b"")), {"HTTP 302": 1}),
        (httpx.Response(200, stream=httpx.ByteStream(b"x" * (ANSWER_BYTES + 1))), {"too long an answer": 1}),
        (httpx.ConnectError("refused"), {"ConnectError": 1}),
    ],
)
def test_from_here_too(monkeypatch, answer, said) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    real = httpx.AsyncClient

    def client(**options: object) -> httpx.AsyncClient:
        assert options["trust_env"] is False, "a proxy of this machine would be measured"
        return real(transport=httpx.MockTransport(handle))

    monkeypatch.setattr(rpc_from_here.httpx, "AsyncClient", client)
    told = rpc_from_here.load_from_here("http://rpc-1", Bounds(10, 0.1), METHODS, lambda _: None)
    assert (told["sent"], told["answered"], told["failures"]) == (1, 0 if said else 1, said)
