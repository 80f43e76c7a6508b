#!/usr/bin/python3 -IB
"""Is the validator ready to be asked? `qtrade-agave-ready [--wait SECONDS] [--max-lag SLOTS] [--interval SECONDS]`

Ready means: initialisation is complete, getHealth is ok, and the slot is near that of the reference RPCs that the host's config names.
A node can be hundreds of slots behind and still answer. Prints one JSON document; progress goes to stderr.
Exit code 0: ready, 1: not ready (or not by the deadline), 2: wrong usage or config.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

INTERFACES = Path("/usr/share/qtrade/interfaces.d/agave.json")
CONFIG = Path("/run/qtrade/state/config/current/agave/ready.json")
INIT_COMPLETE = Path("/run/agave/init-complete")
ANSWER_S = 5.0
ANSWER_BYTES = 1 << 16
DEFAULTS = {"reference_rpcs": [], "max_slot_lag": 100, "catch_up_deadline_s": 7200, "rpc_bind": "127.0.0.1"}


class Unanswered(Exception):
    """An RPC did not answer, or with an error."""


@dataclass(frozen=True)
class Settings:
    """Whom to ask, and what is near enough."""

    local: str
    references: tuple[str, ...]
    max_lag: int
    deadline_s: float


@dataclass(frozen=True)
class Observation:
    """What was seen at one moment; None where nothing answered."""

    time_s: float
    is_initialised: bool
    health: str | None = None
    slot: int | None = None
    references: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What follows from it: `reasons` is empty when ready."""

    ready: bool
    reasons: tuple[str, ...]
    initialised: bool
    health: str | None
    slot: int | None
    reference_slot: int | None
    lag: int | None
    catch_up: dict[str, float | None] = field(default_factory=dict)


def judge(settings: Settings, seen: Observation, first: Observation | None = None) -> Verdict:
    """Return the verdict; `first` is an earlier observation, from which the rate of catching up is told. Pure."""
    reasons = []
    reference = max((slot for slot in seen.references if slot is not None), default=None)
    lag = reference - seen.slot if reference is not None and seen.slot is not None else None
    if not seen.is_initialised:
        reasons.append("initialisation is not complete")
    if seen.health is None:
        reasons.append(f"JSON-RPC at {settings.local} does not answer")
    elif seen.health != "ok":
        reasons.append(f"getHealth says: {seen.health}")
    if settings.references and reference is None:
        # Missing data is no proof of health.
        reasons.append(f"none of {len(settings.references)} reference RPCs answers")
    elif lag is not None and lag > settings.max_lag:
        reasons.append(f"{lag} slots behind the reference, {settings.max_lag} are allowed")
    elif settings.references and seen.slot is None and seen.health is not None:
        reasons.append("getSlot does not answer")
    return Verdict(
        ready=not reasons,
        reasons=tuple(reasons),
        initialised=seen.is_initialised,
        health=seen.health,
        slot=seen.slot,
        reference_slot=reference,
        lag=lag,
        catch_up=estimate(first, seen, lag),
    )


def estimate(first: Observation | None, seen: Observation, lag: int | None) -> dict[str, float | None]:
    """Return `slots_per_s`, `gained_per_s` on the reference, and `eta_s` until the lag is gone; empty without two observations."""
    if first is None or first.slot is None or seen.slot is None or seen.time_s <= first.time_s:
        return {}
    seconds = seen.time_s - first.time_s
    rate = (seen.slot - first.slot) / seconds
    was = max((slot for slot in first.references if slot is not None), default=None)
    if was is None or lag is None:
        return {"slots_per_s": round(rate, 2), "gained_per_s": None, "eta_s": None}
    gained = (was - first.slot - lag) / seconds
    eta = round(lag / gained, 1) if gained > 0 and lag > 0 else None
    return {"slots_per_s": round(rate, 2), "gained_per_s": round(gained, 2), "eta_s": 0.0 if lag <= 0 else eta}


def ask(address: str, method: str) -> Any:
    """Return the result of a JSON-RPC call. Raises `Unanswered`."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 - checked in read_settings
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            content = json.loads(answer.read(ANSWER_BYTES))
    except (OSError, ValueError) as error:
        raise Unanswered(str(error)) from error
    if not isinstance(content, dict) or "result" not in content:
        fault = content.get("error") if isinstance(content, dict) else None
        raise Unanswered(str(fault.get("message", fault)) if isinstance(fault, dict) else "no result")
    return content["result"]


def ask_slot(address: str) -> int | None:
    """Return the slot of an RPC, None when it does not tell one."""
    try:
        slot = ask(address, "getSlot")
    except Unanswered:
        return None
    return slot if isinstance(slot, int) else None


def ask_health(address: str) -> str | None:
    """Return "ok", what the node says of itself instead ("Node is behind by 42 slots"), or None when it does not answer."""
    try:
        return str(ask(address, "getHealth"))
    except Unanswered as error:
        return None if isinstance(error.__cause__, (OSError, ValueError)) else str(error)


def observe(settings: Settings, init_complete: Path) -> Observation:
    """Ask everybody, the references side by side."""
    with ThreadPoolExecutor(max_workers=len(settings.references) + 1) as pool:
        slots = pool.map(ask_slot, settings.references)
        # Own slot last: it must not look older than the references' for having been asked first.
        health = ask_health(settings.local)
        references = tuple(slots)
    return Observation(time.monotonic(), init_complete.exists(), health, ask_slot(settings.local), references)


def read_settings(interfaces: Path, config: Path) -> Settings:
    """Read the image's interfaces and the host's config. Raises `ValueError` or `OSError`."""
    given: dict[str, Any] = dict(DEFAULTS)
    with contextlib.suppress(FileNotFoundError):
        given |= json.loads(config.read_text())
    ports = {one["name"]: one.get("port") for one in json.loads(interfaces.read_text())["interfaces"]}
    bind = ipaddress.ip_address(given["rpc_bind"])
    host = ("127.0.0.1" if bind.version == 4 else "[::1]") if bind.is_unspecified else str(bind)
    for address in given["reference_rpcs"]:
        if not str(address).startswith(("http://", "https://")):
            raise ValueError(f"agave_reference_rpcs: {address!r} is no http or https address")
    return Settings(
        f"http://{host}:{ports['json-rpc']}",
        tuple(given["reference_rpcs"]),
        int(given["max_slot_lag"]),
        float(given["catch_up_deadline_s"]),
    )


def wait_until_ready(settings: Settings, init_complete: Path, *, wait_s: float, interval_s: float) -> Verdict:
    """Look until ready or until the time is over; say on stderr what is missing whenever that changes."""
    deadline = time.monotonic() + wait_s
    first: Observation | None = None
    while True:
        seen = observe(settings, init_complete)
        verdict = judge(settings, seen, first)
        first = first or (seen if seen.slot is not None else None)
        left = deadline - time.monotonic()
        if verdict.ready or left <= 0:
            return verdict
        rate, eta_s = verdict.catch_up.get("gained_per_s"), verdict.catch_up.get("eta_s")
        gaining = f"; gaining {rate} slots/s" if rate else ""
        gaining += f", about {eta_s:.0f} s left" if eta_s else ""
        sys.stderr.write(f"waiting: {'; '.join(verdict.reasons)}{gaining}\n")
        sys.stderr.flush()
        time.sleep(max(min(interval_s, left), 0))


def main(arguments: list[str] | None = None) -> int:
    """Read, look, print."""
    parser = argparse.ArgumentParser(
        prog="qtrade-agave-ready", description="Say whether the validator is ready, as JSON."
    )
    parser.add_argument("--wait", type=float, nargs="?", const=-1.0, default=0.0, metavar="SECONDS")
    parser.add_argument("--max-lag", type=int, metavar="SLOTS")
    parser.add_argument("--interval", type=float, default=5.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    try:
        settings = read_settings(INTERFACES, CONFIG)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"qtrade-agave-ready: {error}\n")
        return 2
    if options.max_lag is not None:
        settings = Settings(settings.local, settings.references, options.max_lag, settings.deadline_s)
    wait_s = settings.deadline_s if options.wait < 0 else options.wait
    verdict = wait_until_ready(settings, INIT_COMPLETE, wait_s=wait_s, interval_s=options.interval)
    sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
    return 0 if verdict.ready else 1


if __name__ == "__main__":
    sys.exit(main())
