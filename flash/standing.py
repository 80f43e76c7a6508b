"""Where a host stands: what it says of itself, its last flash, who holds it."""

import time
from typing import Any

from flash.agent_link import AgentLink
from flash.inventory import load_host
from flash.journal import Journal, latest
from flash.ssh import target_for
from flash.states import ENDS
from qtrade.errors import QtradeError
from qtrade.look import render_plan, write_time
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases

_CONSOLE_LINES = 10
# For machines: what a person does not compare by eye, or what stands in the first line.
_UNSEEN = {
    "host",
    "answers",
    "version",
    "image",
    "lease",
    "flash",
    "nonce",
    "secret_stamps",
    "verbs",
    "upper_entries",
    "trust_expires",
}
_ID = 64


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


def render_standing(found: dict[str, Any], *, width: int | None = None) -> str:
    """Return what `show` found for people, by the names of its fields; what is empty is left out, and images are cut short."""
    runs = f"runs {found['version']} ({_short(found['image'])})" if found["answers"] else "does not answer"
    lease, flash = found["lease"], found["flash"]
    facts = [(name, _words(value)) for name, value in found.items() if name not in _UNSEEN]
    facts += [("trust_expires", write_time(found["trust_expires"]))] if found.get("trust_expires") else []
    if lease and "problem" not in lease:
        held = f"{lease['holder']} (process {lease['pid']}) until {lease['expires']}" if lease["held"] else "nobody"
        facts += [("held by", held), ("quarantine", lease["quarantine"])]
    elif lease:
        facts.append(("lease", lease["problem"]))
    if flash:
        is_open = ", open" if flash["open"] else ""
        facts.append(("last flash", f"{flash['version']} through {flash['door']}: {flash['state']}{is_open}"))
        facts += [(f"  {one['state']}", one["at"]) for one in flash["reached"]]
        facts.append(("  journal", flash["journal"]))
    shown = [(name, text) for name, text in facts if text]
    return render_plan(f"{found['host']} {runs}", (), facts=shown, width=width)


def _words(value: Any) -> str:
    """Return a value on one line; nothing where it says nothing."""
    match value:
        case dict():
            return ", ".join(f"{_short(name)} {_words(one)}".rstrip() for name, one in sorted(value.items()))
        case list():
            return ", ".join(_words(one) for one in value)
        case None | False | "":
            return ""
        case _:
            return _short(str(value))


def _short(text: str) -> str:
    is_digest = len(text) == _ID and not text.strip("0123456789abcdef")
    return f"{text[:16]}…" if is_digest else text


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
        "since": write_time(lease.since),
        "expires": write_time(lease.expires),
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
        "reached": [{"at": write_time(entry.at), "state": entry.state, "token": entry.token} for entry in entries],
        "evidence": evidence,
        "journal": str(journal.path),
        "console": lines,
    }
