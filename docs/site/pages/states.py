"""The states of a flash, with what `flash/states.py` says of each."""

from docs.site.pages.table import code, table
from flash.states import ENDS, State, rules, sequence
from qtrade.manifest.driver import Door

MEANINGS = {
    State.PLANNED: "The plan is made and written into the journal.",
    State.LEASED: "The host is held, so that nobody else works on it.",
    State.PREFLIGHT: "Signatures, blobs, secrets, door and other hosts are looked at. Nothing is touched.",
    State.DRAINED: "The services have stopped in order.",
    State.STAGING: "The agent speaks: on the running host, or in the installer.",
    State.WRITING: "The missing layers travel and are written.",
    State.VERIFIED: "Every byte was read back; protected disks are as before.",
    State.ARMED: "The boot entry stands. It is the last write.",
    State.REBOOTING: "The host goes down and answers as the new image.",
    State.CONFIGURED: "Config generation and secrets are accepted.",
    State.HEALTHY: "No failed unit; the specs of all roles hold.",
    State.SOAKING: "It stays healthy for as long as its environment asks.",
    State.COMMITTED: "The new version is the default.",
    State.FAILED_SAFE: "It failed, and the host is as it was.",
    State.FAILED_DIRTY: "It failed while the installer wrote: the disk may boot nothing. Flash again.",
    State.ROLLED_BACK: "The new version failed, and the old one runs again.",
    State.QUARANTINED: "A person has to look. Everything else is refused until then.",
}


_INTRODUCTION = """# States of a flash

![The states of a flash, in place and through the installer](../pictures/states.svg)

Each state has a deadline, evidence to leave it, and an answer to: what boots if power fails now? Legal moves are a table in the code, from
which this page and its picture are made. The evidence is in [Architecture](../architecture.md#states-of-a-flash).
"""


def render_states() -> str:
    """Return the page."""
    return "\n".join(
        [
            _INTRODUCTION,
            "## In place\n",
            _table(Door.IN_PLACE),
            "## Through the installer\n",
            "kexec, rescue, virtual media, UEFI HTTP, PXE and the providers' ways.\n",
            _table(Door.PXE),
            "## Ends\n",
            table(("state", "meaning"), ((code(state), MEANINGS[state]) for state in ENDS)),
        ]
    )


def _table(door: Door) -> str:
    rows = []
    for state in sequence(door):
        rule = rules(door, state)
        rows.append((code(state), MEANINGS[state], _time(rule.deadline_s), rule.power_fails, code(rule.on_failure)))
    return table(("state", "meaning", "deadline", "if power fails: boots", "if it fails"), rows)


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
