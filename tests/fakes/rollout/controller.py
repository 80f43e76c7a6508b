"""A controller in a process of its own, to be killed: `python -m tests.fakes.rollout.controller SPEC PORT STATE`.

It runs the engine as `qtrade rollout start` does, with journal, lease and record, on a fleet behind `tests.fakes.rollout.server`.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from flash.rollout import control, wiring
from flash.rollout.ports import Ports
from qtrade.reporter import ConsoleReporter
from qtrade.settings import Settings
from tests.fakes.rollout.fleet import TooMany, make_members, make_plan
from tests.fakes.rollout.ports import QuickClock, SimEyes, SimHands, judge


class HttpApi:
    """The fleet's API over HTTP. One client for all calls, as many connections as hosts under way."""

    def __init__(self, port: int) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60, trust_env=False
        )

    async def begin(self, name: str, version: str, job: str) -> None:
        await self._call("POST", "/begin", params={"host": name, "version": version, "job": job})

    async def status(self, name: str) -> dict[str, Any]:
        return dict(await self._call("GET", "/status", params={"host": name}))

    async def errors(self, names: Sequence[str]) -> dict[str, float | None]:
        return dict(await self._call("POST", "/errors", json=list(names)))

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._client.request(method, path, **options)
        if answer.status_code == 429:
            raise TooMany
        answer.raise_for_status()
        return answer.json()


def peak_kib() -> int:
    """Return the most memory that this program had; what `getrusage` says is also of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


def main() -> None:
    """Carry the rollout out, and write what it took beside the state."""
    spec, state = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[3])
    clock, api = QuickClock(spec.get("times", 1)), HttpApi(int(sys.argv[2]))
    hands = SimHands(api, poll_s=spec.get("poll_s", 0.05), patience_s=spec.get("patience_s", 1.0))
    ports = Ports(hands, SimEyes(api, clock), judge, clock)
    wiring.ports_for = lambda *_: ports  # type: ignore[assignment]
    plan = make_plan(make_members(spec["count"], rare=spec.get("rare", 0)), **spec["policy"])
    settings = Settings(project=state, state_dir=state, store=state / "store")
    before_kib = peak_kib()
    began = time.monotonic()
    rollout = control.start(settings, plan, ConsoleReporter(quiet=True))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    took = {
        "phase": rollout.progress.phase,
        "counts": {str(name): count for name, count in rollout.progress.counts().items() if count},
        "failure": rollout.progress.failure,
        "peak_kib": peak_kib(),
        "before_kib": before_kib,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds": round(time.monotonic() - began, 2),
    }
    (state / "took.json").write_text(json.dumps(took))


if __name__ == "__main__":
    main()
