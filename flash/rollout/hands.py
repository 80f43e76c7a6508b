"""The real hands: each host is flashed or rolled back by a `qtrade` command of its own, which outlives a killed controller (ADR 21).

What came of it is read from the host and from the journal of its flash, never from whether we saw the command end.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash.agent_link import AgentLink
from flash.inventory import load_host
from flash.journal import latest
from flash.rollout.ports import Outcome
from flash.rollout.progress import Event
from flash.rollout.waves import RolloutPlan
from flash.ssh import target_for
from flash.states import State
from qtrade.errors import ConflictError, QtradeError
from qtrade.process import kill_group, spawn
from qtrade.settings import Settings

if TYPE_CHECKING:
    from subprocess import Popen

_POLL_S = 0.5
_QTRADE = (sys.executable, "-m", "qtrade.cli", "--log-format", "json")
_ANSWERS_S = 30.0
# How long a host that is to go back may be silent: it may be in the middle of a boot.
_BOOTS_S = 1800.0
_TRIES = 3
_ENDS = {
    State.COMMITTED: Event.COMMITTED,
    State.ROLLED_BACK: Event.FELL_BACK,
    State.QUARANTINED: Event.STUCK,
    State.FAILED_DIRTY: Event.STUCK,
}


class CommandHands:
    """Works on hosts by commands. `logs` is the folder that their output goes to, a file a host; `program` is `qtrade`."""

    def __init__(
        self,
        settings: Settings,
        plan: RolloutPlan,
        logs: Path,
        *,
        program: Sequence[str] = _QTRADE,
        held_s: float = 10.0,
    ) -> None:
        self._settings, self._plan, self._logs = settings, plan, logs
        self._program, self._held_s = tuple(program), held_s
        self._children: dict[str, Popen[bytes]] = {}

    async def deploy(self, host: str, since: float) -> Outcome:
        """Flash the host, or take its flash up; find it done where it runs the version already, or where a flash since then failed."""
        tries = 0
        while True:
            if await asyncio.to_thread(self._runs_it, host):
                return Outcome(Event.COMMITTED)
            if failed := await asyncio.to_thread(self._failed_since, host, since):
                return failed
            began = time.time()
            code = await self._command(host, "flash", "--host", host, "--version", self._plan.version)
            if code == ConflictError.exit_code and not self._is_quarantined(host):
                # Mostly the command that a killed controller began: it ends by itself.
                await asyncio.sleep(self._held_s)
                continue
            outcome = await asyncio.to_thread(self._flashed, host, code, began)
            tries += 1
            if outcome is not None:
                return outcome
            if tries == _TRIES:
                return Outcome(Event.STUCK, f"its flash was ended {tries} times: {self._said(host)}")

    async def take_back(self, host: str, to: str) -> Outcome:
        """Roll the host back; find it done where it runs another version, or `to`, already."""
        silent_until = time.monotonic() + _BOOTS_S
        while True:
            status = await asyncio.to_thread(self._status, host)
            if status is None and time.monotonic() < silent_until:
                await asyncio.sleep(self._held_s)
                continue
            if status is not None and self._is_back(status, to):
                return Outcome(Event.RETURNED, f"runs {status['version']}")
            code = await self._command(host, "rollback", "--host", host, *(("--to", to) if to else ()))
            if code == 0:
                return Outcome(Event.RETURNED)
            if code != ConflictError.exit_code:
                return Outcome(Event.STUCK, self._said(host))
            await asyncio.sleep(self._held_s)

    async def _command(self, host: str, *arguments: str) -> int:
        """Run `qtrade` and return its exit code. It has a session of its own, so that it outlives us."""
        self._logs.mkdir(parents=True, exist_ok=True)
        argv = (*self._program, *arguments, "--yes", "--json")
        child = await asyncio.to_thread(spawn, argv, log=self._log(host), env=dict(os.environ))
        self._children[host] = child
        while (code := child.poll()) is None:  # noqa: ASYNC110 - no event tells of a process
            await asyncio.sleep(_POLL_S)
        del self._children[host]
        return code

    async def give_up(self, host: str) -> None:
        """End the command of a host that took too long; its flash stays open, for a person."""
        child = self._children.pop(host, None)
        if child is not None:
            await asyncio.to_thread(kill_group, child)

    def _runs_it(self, host: str) -> bool:
        """Say whether the host runs the version and starts it by default, and no flash of this machine is open on it."""
        status, journal = self._status(host), latest(self._settings.state_dir / "flashes" / host)
        if status is None or (journal is not None and journal.is_open):
            return False
        return bool(status["image"] == self._plan.image == status["default"])

    def _failed_since(self, host: str, since: float) -> Outcome | None:
        """Return what a flash of the version came to that the controller before this one began: it is not tried a second time."""
        journal = latest(self._settings.state_dir / "flashes" / host)
        if journal is None or journal.is_open or not journal.entries or journal.entries[0].at < since:
            return None
        state = journal.state
        if state is State.COMMITTED or state is None or journal.evidence("version") != self._plan.version:
            return None
        return Outcome(_ENDS.get(state, Event.SKIPPED), str(journal.evidence("error") or state))

    def _flashed(self, host: str, code: int, began: float) -> Outcome | None:
        """Return what the flash came to, None where it was ended in the middle and is to be taken up."""
        if code == 0:
            return Outcome(Event.COMMITTED)
        journal = latest(self._settings.state_dir / "flashes" / host)
        if journal is None or not journal.entries or journal.entries[-1].at < began:
            # It refused before it did anything.
            return Outcome(Event.SKIPPED, self._said(host))
        if journal.is_open:
            return None
        state = journal.state
        return Outcome(_ENDS.get(state, Event.SKIPPED) if state else Event.SKIPPED, self._said(host))

    def _is_quarantined(self, host: str) -> bool:
        return "is quarantined" in self._said(host)

    def _is_back(self, status: dict[str, Any], to: str) -> bool:
        if status["image"] != status["default"]:
            return False
        return bool(status["version"] == to if to else status["image"] != self._plan.image)

    def _status(self, host: str) -> dict[str, Any] | None:
        try:
            return AgentLink(target_for(self._settings, load_host(self._settings, host))).status(timeout_s=_ANSWERS_S)
        except QtradeError:
            return None

    def _said(self, host: str) -> str:
        """Return the error that the host's last command ended with."""
        lines = self._log(host).read_text(errors="replace").splitlines() if self._log(host).exists() else []
        for line in reversed(lines):
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            if isinstance(fields, dict) and fields.get("event") == "error":
                return str(fields.get("brief", ""))
        return f"no error was said; see {self._log(host)}"

    def _log(self, host: str) -> Path:
        return self._logs / f"{host}.log"
