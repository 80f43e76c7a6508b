"""The journal of a flash: one JSON line per event, flushed to disk before the next step begins."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash.states import ENDS, State
from qtrade.errors import BadInput
from qtrade.manifest.driver import Door
from qtrade.redaction import redact


@dataclass(frozen=True)
class Entry:
    """One line: when (Unix seconds), the state that was reached, the evidence for it, and the token of who held the host."""

    at: float
    state: State
    evidence: dict[str, Any]
    token: int = 0


class Journal:
    """Append-only, one per flash, in a folder of the host. `token` is written with every line, `once` with the next one only."""

    def __init__(self, path: Path, *, token: int = 0) -> None:
        self.path = path
        self.token = token
        self.once: dict[str, Any] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return what was written; a last line that a crash cut off does not count."""
        if not self.path.exists():
            return ()
        found = []
        lines = self.path.read_text().split("\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                fields = json.loads(line)
                found.append(Entry(fields["at"], State(fields["state"]), fields["evidence"], fields.get("token", 0)))
            except (ValueError, KeyError) as error:
                raise BadInput(f"{self.path}:{number} is no journal line", resolution="move the file away") from error
        return tuple(found)

    @property
    def state(self) -> State | None:
        """Return the last state that was reached, or None for a flash that has not begun."""
        entries = self.entries
        return entries[-1].state if entries else None

    @property
    def is_open(self) -> bool:
        """Whether the flash has begun and not ended."""
        return self.state is not None and self.state not in ENDS

    def evidence(self, name: str) -> Any:
        """Return the newest evidence called `name`, or None."""
        return next((entry.evidence[name] for entry in reversed(self.entries) if name in entry.evidence), None)

    def write(self, state: State, evidence: dict[str, Any]) -> None:
        """Append a line and flush it to disk."""
        evidence, self.once = {**self.once, **evidence}, {}
        fields = {"at": round(time.time(), 3), "state": state, "evidence": evidence, "token": self.token}
        line = redact(json.dumps(fields, sort_keys=True))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("r+b" if self.path.exists() else "wb") as sink:
            # What a crash cut off is written over.
            sink.seek(self.path.read_bytes().rfind(b"\n") + 1)
            sink.truncate()
            sink.write(line.encode() + b"\n")
            sink.flush()
            os.fsync(sink.fileno())


def past_seconds(folder: Path, door: Door) -> dict[str, float]:
    """Return what each state took, in seconds, in the host's newest flash through that door that was committed; nothing without one."""
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        journal = Journal(path)
        if journal.state is State.COMMITTED and journal.evidence("door") == door:
            took = {str(entry.state): entry.evidence.get("seconds") for entry in journal.entries}
            return {state: float(seconds) for state, seconds in took.items() if seconds is not None}
    return {}


def latest(folder: Path) -> Journal | None:
    """Return the newest journal of a host's folder, or None."""
    paths = sorted(folder.glob("*.jsonl"))
    return Journal(paths[-1]) if paths else None
