"""JSON-RPC requests to a host from this machine, as its clients send them: through both network cards."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from flash.bench.on_host.open_loop import Bounds, run
from flash.bench.on_host.rpc import ANSWER_BYTES, judge_answer, make_body


def load_from_here(
    url: str, bounds: Bounds, methods: tuple[str, ...], tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Put the load on `url` and return the result, in the form of `open_loop.run`."""
    return asyncio.run(_load(url, bounds, methods, tell))


async def _load(
    url: str, bounds: Bounds, methods: tuple[str, ...], tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=bounds.in_flight, max_keepalive_connections=bounds.in_flight)
    headers = {"Content-Type": "application/json"}
    # No proxy of this machine's environment: it is the host that is measured.
    async with httpx.AsyncClient(
        limits=limits, timeout=bounds.answer_s, headers=headers, trust_env=False, follow_redirects=False
    ) as client:

        async def send(number: int) -> str:
            try:
                async with client.stream("POST", url, content=make_body(number, methods)) as answer:
                    body = b""
                    async for part in answer.aiter_raw():
                        body += part
                        if len(body) > ANSWER_BYTES:
                            return "too long an answer"
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                return type(error).__name__
            return judge_answer(number, answer.status_code, body)

        return await run(send, bounds, tell)
