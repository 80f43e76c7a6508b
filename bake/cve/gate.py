"""The gate: which findings stop a bake. Pure."""

from dataclasses import dataclass
from datetime import date

from bake.cve.findings import Finding
from qtrade.manifest.waivers import Gate, Waiver

_RANKS = {"unimportant": 0, "end-of-life": 1, "not yet assigned": 1, "low": 2, "medium": 3, "high": 4}


@dataclass(frozen=True)
class Judged:
    """A finding and what the gate makes of it: `reason` says why it blocks; a waived one has its waiver."""

    finding: Finding
    reason: str
    waiver: Waiver | None = None

    @property
    def blocks(self) -> bool:
        """Whether it stops the image."""
        return bool(self.reason) and self.waiver is None


@dataclass(frozen=True)
class Verdict:
    """The gate's answer. `unused` says, one line each, which waivers do not count and why."""

    judged: tuple[Judged, ...]
    unused: tuple[str, ...]

    @property
    def blocking(self) -> tuple[Judged, ...]:
        """The findings that stop the image."""
        return tuple(item for item in self.judged if item.blocks)

    @property
    def passed(self) -> bool:
        """Whether nothing stops the image."""
        return not self.blocking


def judge(
    findings: tuple[Finding, ...], gate: Gate, waivers: tuple[Waiver, ...], today: date, refused: tuple[str, ...] = ()
) -> Verdict:
    """Return the verdict on `findings`.

    `waivers` are those whose signature holds; an expired one counts as none. `refused` are lines on those whose signature
    does not, which are passed on.
    """
    valid = {(waiver.cve, waiver.package): waiver for waiver in waivers if waiver.expires >= today}
    expired = [
        f"{waiver.cve} in {waiver.package}: expired on {waiver.expires.isoformat()}"
        for waiver in waivers
        if waiver.expires < today
    ]
    judged = []
    for finding in findings:
        reason = blocking_reason(finding, gate)
        judged.append(Judged(finding, reason, valid.get(finding.identity) if reason else None))
    return Verdict(tuple(judged), (*refused, *expired))


def blocking_reason(finding: Finding, gate: Gate) -> str:
    """Return why the rule stops `finding`, or nothing. What the tracker calls unimportant never does."""
    rank = _RANKS[finding.urgency]
    if rank == 0:
        return ""
    if rank >= _RANKS[gate.urgency]:
        return f"urgency {finding.urgency}"
    if gate.fix_available and finding.status == "resolved" and finding.fixed:
        return f"fixed in {finding.fixed}"
    return ""
