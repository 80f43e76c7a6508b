"""Hands, eyes, judge and clock for a simulated fleet. The hands know a host by its job's nonce: a stale status proves nothing."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from flash.judge.record import Finding, Judgement, Sample, Verdict
from flash.rollout.ports import Outcome, Ports
from flash.rollout.progress import Event
from tests.fakes.rollout.fleet import NEW, OLD, Fleet, TooMany

_BASE = 1_790_000_000.0


class QuickClock:
    """A clock that runs `times` as fast as the machine's, the same in every process."""

    def __init__(self, times: float = 1.0) -> None:
        self.times = times

    def now(self) -> float:
        return _BASE + (time.time() - _BASE) * self.times

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s / self.times):
                await event.wait()


class DirectApi:
    """Calls the fleet in this process."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    async def begin(self, name: str, version: str, job: str) -> None:
        await asyncio.sleep(self.fleet.rules.latency_s)
        self.fleet.begin(name, version, job)

    async def status(self, name: str) -> dict[str, Any]:
        await asyncio.sleep(self.fleet.rules.latency_s)
        return self.fleet.status(name)

    async def errors(self, names: Sequence[str]) -> dict[str, float | None]:
        return {name: self.fleet.errors(name) for name in names}


class SimHands:
    """Deploys by way of the provider's API; a host that does not answer for `patience_s` is passed over."""

    def __init__(self, api: Any, *, poll_s: float = 0.01, patience_s: float = 0.3) -> None:
        self.api, self.poll_s, self.patience_s = api, poll_s, patience_s

    async def give_up(self, host: str) -> None:
        self.given_up = host

    async def deploy(self, host: str, since: float) -> Outcome:
        found = await self._boot(host, NEW, f"{NEW} on {host}")
        if found is None:
            return Outcome(Event.SKIPPED, "it does not answer")
        if found["fell_back"]:
            return Outcome(Event.FELL_BACK, str(found["fell_back"]))
        return Outcome(Event.COMMITTED)

    async def take_back(self, host: str, to: str) -> Outcome:
        found = await self._boot(host, to or OLD, f"back on {host}")
        return Outcome(Event.STUCK, "it does not answer") if found is None else Outcome(Event.RETURNED)

    async def _boot(self, host: str, version: str, job: str) -> dict[str, Any] | None:
        await self._call(lambda: self.api.begin(host, version, job))
        silent_until = time.monotonic() + self.patience_s
        while True:
            found = await self._call(lambda: self.api.status(host))
            if found["answers"] and found["job"] == job:
                return dict(found)
            if not found["answers"] and time.monotonic() > silent_until:
                return None
            await asyncio.sleep(self.poll_s)

    async def _call(self, call: Callable[[], Any]) -> Any:
        wait_s = self.poll_s
        while True:
            try:
                return await call()
            except TooMany:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 1.0)


class SimEyes:
    """Asks every host for its errors under load."""

    def __init__(self, api: Any, clock: QuickClock) -> None:
        self.api, self.clock = api, clock

    async def __call__(self, hosts: Sequence[str], since: float) -> Sequence[Sample]:
        del since
        found = await self.api.errors(hosts)
        now = self.clock.now()
        return [
            Sample(name, "errors", now, value, "" if value is not None else "silent") for name, value in found.items()
        ]


def judge(
    samples: Iterable[Sample],
    canaries: Sequence[str],
    controls: Sequence[str],
    deployed_at: Mapping[str, float],
    until: float,
) -> Judgement:
    """Fail on errors, pass on zero, and say nothing of a host that was not seen since its deploy."""
    del controls, until
    last: dict[str, Sample] = {}
    worst: dict[str, Sample] = {}
    for one in samples:
        if one.host in deployed_at and one.at >= deployed_at[one.host]:
            last[one.host] = one
            if one.value:
                worst[one.host] = one
    findings = tuple(_find(name, worst.get(name), last.get(name)) for name in canaries)
    verdicts = {one.verdict for one in findings}
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return Judgement(verdict, findings)
    return Judgement(Verdict.PASS, findings)


def _find(host: str, worst: Sample | None, last: Sample | None) -> Finding:
    if worst is not None:
        return Finding("errors", host, Verdict.FAIL, "its service gives errors", worst)
    if last is None or last.value is None:
        return Finding("errors", host, Verdict.INCONCLUSIVE, "nothing was seen of it", last)
    return Finding("errors", host, Verdict.PASS, "none", last)


def sim_ports(fleet: Fleet, *, times: float = 1.0, **hands: Any) -> Ports:
    """Return ports on a fleet in this process."""
    clock, api = QuickClock(times), DirectApi(fleet)
    return Ports(SimHands(api, **hands), SimEyes(api, clock), judge, clock)
