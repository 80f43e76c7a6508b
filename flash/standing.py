"""Where a host stands: what it says of itself, its last flash, who holds it."""

import time
from typing import Any

from flash.agent_link import AgentLink
from flash.inventory import load_host
from flash.journal import Journal, latest
from flash.ssh import target_for
from flash.states import ENDS
from qtrade.errors import QtradeError
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases

_CONSOLE_LINES = 10


def show(settings: Settings, host_name: str) -> dict[str, Any]:
    """Return the host's own words with `answers`, `lease` and `flash` beside them. Raises `NotFound` for an unknown host.

    What cannot be asked says why, and hides nothing of the rest.
    """
    host = load_host(settings, host_name)
    found: dict[str, Any] = {"host": host.name, "answers": True}
    try:
        found |= AgentLink(target_for(settings, host)).status()
    except QtradeError as error:
        found |= {"answers": False, "problem": f"{error.brief} {error.details}".strip()}
    journal = latest(settings.state_dir / "flashes" / host.name)
    return {**found, "lease": _lease(settings, host.name), "flash": _flash(journal) if journal else None}


def _lease(settings: Settings, host_name: str) -> dict[str, Any] | None:
    """Return who holds the host, or held it last; None when nobody ever did."""
    try:
        lease = Leases(open_store(settings).objects).read(host_name)
    except QtradeError as error:
        return {"problem": error.brief}
    if lease is None:
        return None
    return {
        "held": lease.is_held(time.time()),
        "holder": lease.holder,
        "pid": lease.pid,
        "since": _clock(lease.since),
        "expires": _clock(lease.expires),
        "released": lease.released,
        "token": lease.token,
        "quarantine": lease.quarantine,
    }


def _flash(journal: Journal) -> dict[str, Any]:
    """Return the last flash: state, plan, when each state was reached, the newest evidence, and what the console said last."""
    entries = journal.entries
    evidence: dict[str, Any] = {}
    for entry in entries:
        evidence.update(entry.evidence)
    state = journal.state
    console = journal.path.with_suffix(".console")
    lines = console.read_text(errors="replace").splitlines()[-_CONSOLE_LINES:] if console.is_file() else []
    return {
        "state": state,
        "open": state is not None and state not in ENDS,
        "version": evidence.get("version"),
        "door": evidence.get("door"),
        "reached": [{"at": _clock(entry.at), "state": entry.state, "token": entry.token} for entry in entries],
        "evidence": evidence,
        "journal": str(journal.path),
        "console": lines,
    }


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
