"""People on hosts: `qtrade ssh`, `logs` and `console` are the way in. Each use is on record, without what was shown or typed."""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtrade.actor import who
from qtrade.errors import UsageError
from qtrade.manifest import Environment, Host
from qtrade.redaction import redact
from qtrade.settings import Settings

RECENT_S = 7 * 86400.0
_KEPT_COMMAND = 500


@dataclass(frozen=True)
class ManualAccess:
    """One use. `how` is ssh, logs, console or keys; `code` is None while it lasts, or where its end was not seen."""

    id: str
    at: float
    who: str
    host: str
    how: str
    account: str
    reason: str
    command: str
    code: int | None = None
    took_s: float | None = None


@dataclass(frozen=True)
class Purpose:
    """What somebody goes in for; as in `ManualAccess`."""

    how: str
    account: str = ""
    reason: str = ""
    command: str = ""


def require_reason(environment: Environment, reason: str) -> None:
    """Raise `UsageError` where nobody says why: production asks for it."""
    if environment.name == "production" and not reason.strip():
        raise UsageError("hosts of production want to know why", resolution='add --reason "…"')


def record(settings: Settings, host: Host, purpose: Purpose, do: Callable[[], int]) -> int:
    """Write down who goes in, let `do` happen, and write down how it ended; returns its exit code."""
    begun = ManualAccess(
        id=uuid.uuid4().hex,
        at=round(time.time(), 3),
        who=who(),
        host=host.name,
        how=purpose.how,
        account=purpose.account,
        reason=purpose.reason.strip(),
        command=redact(purpose.command)[:_KEPT_COMMAND],
    )
    path = _path(settings, host.name)
    _append(path, asdict(begun))
    code: int | None = None
    try:
        code = do()
    finally:
        took = round(time.time() - begun.at, 3)
        _append(path, {"id": begun.id, "code": code, "took_s": took})
    return code


def recent(settings: Settings, host: str, *, now: float, within_s: float = RECENT_S) -> tuple[ManualAccess, ...]:
    """Return who was on a host lately, oldest first, as far as this machine's records go."""
    path = _path(settings, host)
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            fields = json.loads(line)
            found[fields["id"]] = {**found.get(fields["id"], {}), **fields}
        except (ValueError, KeyError, TypeError):
            continue  # what a crash cut off
    uses = [ManualAccess(**fields) for fields in found.values() if {"at", "who", "how"} <= set(fields)]
    return tuple(use for use in sorted(uses, key=lambda use: use.at) if use.at >= now - within_s)


def _path(settings: Settings, host: str) -> Path:
    return settings.state_dir / "access" / f"{host}.jsonl"


def _append(path: Path, fields: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as sink:
        fcntl.flock(sink, fcntl.LOCK_EX)
        sink.write(redact(json.dumps(fields, sort_keys=True)).encode() + b"\n")
        sink.flush()
        os.fsync(sink.fileno())
