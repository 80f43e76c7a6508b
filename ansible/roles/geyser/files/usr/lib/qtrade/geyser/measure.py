#!/usr/bin/python3 -EsB
"""Put subscriptions on the Geyser stream of this host and measure what they are given: how late slots come, and whether any is left out.

How late is by the plugin's own `created_at` and by the clock of the same host. Prints one JSON object a line; the last one has the result.
Within bounds: at most 64 subscriptions, an hour, and what they keep in memory.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpack
import http2
import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_STREAMS, MAX_SECONDS, MAX_UPDATES = 64, 3600, 100_000
_QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
_CONNECT_S = 10.0


@dataclass
class Taken:
    """What one subscription was given: slots in their order, and how many seconds after its making each update came."""

    slots: list[int] = field(default_factory=list)
    delays: array[float] = field(default_factory=lambda: array("d"))
    problem: str = ""


def read_update(message: bytes) -> tuple[int | None, float | None]:
    """Return the slot (field 3, its field 1) of a SubscribeUpdate and when it was made (field 11); None for what is not there."""
    slot, created = None, None
    for number, value in http2.read_fields(message):
        if number == 3 and isinstance(value, bytes):
            slot = next((one for inner, one in http2.read_fields(value) if inner == 1 and isinstance(one, int)), None)
        elif number == 11 and isinstance(value, bytes):
            parts = {inner: one for inner, one in http2.read_fields(value) if isinstance(one, int)}
            created = parts.get(1, 0) + parts.get(2, 0) / 1e9
    return slot, created


def subscribe(server: stream.Server, seconds: float, taken: Taken) -> None:
    """Take updates until the time is up; what goes wrong stands in `taken`."""
    deadline = time.monotonic() + seconds
    decoder, messages = hpack.Decoder(), http2.MessageReader()
    try:
        with stream.open_connection(server, _CONNECT_S) as connection:
            connection.sendall(stream.make_call(server, "Subscribe", server.token, stream.SUBSCRIBE))
            for kind, flags, payload in stream.read_frames(connection):
                now = time.time()
                if kind == http2.HEADERS:
                    headers = dict(decoder.decode(http2.strip_frame(kind, flags, payload)))
                    if headers.get("grpc-status", "0") != "0":
                        raise ConnectionError(f"status {headers['grpc-status']}: {headers.get('grpc-message', '')}")
                elif kind == http2.DATA:
                    for message in messages.feed(http2.strip_frame(kind, flags, payload)):
                        take(taken, message, now)
                if time.monotonic() > deadline or len(taken.slots) >= MAX_UPDATES:
                    return
                if flags & http2.END_STREAM and kind in (http2.DATA, http2.HEADERS):
                    raise ConnectionError("the server ended the call")
    except (OSError, ValueError, LookupError) as error:
        taken.problem = f"{type(error).__name__}: {error}"


def take(taken: Taken, message: bytes, now: float) -> None:
    """Note one update; pings have no slot."""
    slot, created = read_update(message)
    if slot is None:
        return
    taken.slots.append(slot)
    if created is not None:
        taken.delays.append(now - created)


def count_gaps(slots: Sequence[int]) -> int:
    """Return how many slots are missing between the first and the last one. A cluster skips slots too: compare, do not demand 0."""
    return max(slots) - min(slots) + 1 - len(set(slots)) if slots else 0


def judge(all_taken: Sequence[Taken], seconds: float) -> dict[str, Any]:
    """Return the result. Each subscription has to see slots advance, and to last to the end."""
    problems = [one.problem for one in all_taken if one.problem]
    silent = sum(len(set(one.slots)) < 2 for one in all_taken if not one.problem)
    delays = sorted(delay for one in all_taken for delay in one.delays)
    ranks = {name: max(math.ceil(share * len(delays)), 1) - 1 for name, share in _QUANTILES.items()}
    figures: dict[str, Any] = {f"delay_{name}": round(delays[rank] * 1000, 3) for name, rank in ranks.items() if delays}
    reasons = [f"{len(problems)} of {len(all_taken)} subscriptions failed: {problems[0][:100]}"] if problems else []
    reasons += [f"{silent} of {len(all_taken)} subscriptions saw no slots advance"] if silent else []
    return {
        **figures,
        "slots_per_s": round(max((len(set(one.slots)) for one in all_taken), default=0) / seconds, 3),
        "slot_gaps": max((count_gaps(one.slots) for one in all_taken), default=0),
        "reasons": reasons,
    }


def measure(server: stream.Server, streams: int, seconds: float) -> dict[str, Any]:
    """Subscribe so many times side by side."""
    all_taken = [Taken() for _ in range(streams)]
    threads = [threading.Thread(target=subscribe, args=(server, seconds, taken), daemon=True) for taken in all_taken]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds + _CONNECT_S + 5
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    return judge(all_taken, seconds)


def main() -> int:
    """Measure and print; exit code 2 for a wrong command line or no config, else 0: the result says how it went."""
    parser = argparse.ArgumentParser(description="Measure the Geyser stream of this host.", allow_abbrev=False)
    parser.add_argument("--streams", type=int, required=True, choices=range(1, MAX_STREAMS + 1), metavar="N")
    parser.add_argument("--seconds", type=int, required=True, choices=range(1, MAX_SECONDS + 1), metavar="S")
    parser.add_argument("--config", type=Path, default=stream.CONFIG)
    arguments = parser.parse_args()
    try:
        server = stream.read_server(json.loads(arguments.config.read_text()))
    except (OSError, ValueError, LookupError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    result = measure(server, arguments.streams, arguments.seconds)
    print(json.dumps({"result": result}))  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
