"""What a rollout asks of the world: hands that change hosts, eyes that observe them, a judge, a clock. Simulations bring their own."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from flash.judge.record import Judgement, Sample
from flash.rollout.progress import Event


@dataclass(frozen=True)
class Outcome:
    """How the work on one host ended: COMMITTED, SKIPPED, FELL_BACK, STUCK or RETURNED, and why."""

    event: Event
    why: str = ""


class Hands(Protocol):
    """Change hosts. Both may be asked again after a crash, and then go on or find it done; they raise nothing but for defects."""

    async def deploy(self, host: str, since: float) -> Outcome:
        """Bring the rollout's version to a host, up to COMMITTED. `since` is when the rollout first began with it (Unix seconds)."""
        ...

    async def take_back(self, host: str, to: str) -> Outcome:
        """Boot version `to` again, empty for what the host ran before; nothing is downloaded."""
        ...

    async def give_up(self, host: str) -> None:
        """End what is still at work on a host that took too long."""
        ...


class Observe(Protocol):
    """Look at hosts: what was recorded of them after that time (Unix seconds), which is that of the last look.

    A silent host has samples without a value. It runs beside the work on hosts, and must not block the loop.
    """

    async def __call__(self, hosts: Sequence[str], since: float) -> Sequence[Sample]:
        """Return the samples, oldest first."""
        ...


class Judge(Protocol):
    """Say what samples mean; pure."""

    def __call__(
        self,
        samples: Iterable[Sample],
        canaries: Sequence[str],
        controls: Sequence[str],
        deployed_at: Mapping[str, float],
        until: float,
    ) -> Judgement:
        """Return the verdict on `canaries`, which run the new version since `deployed_at`; `until` is the end of the record."""
        ...


class Clock(Protocol):
    """The time, and waiting."""

    def now(self) -> float:
        """Return Unix seconds."""
        ...

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Return when the event is set, or after `timeout_s`."""
        ...


class WallClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Return when the event is set, or after `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()


@dataclass(frozen=True)
class Ports:
    """All of them."""

    hands: Hands
    observe: Observe
    judge: Judge
    clock: Clock
