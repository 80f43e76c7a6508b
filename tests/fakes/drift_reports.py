"""Reports of drift that tests change one thing of."""

from typing import Any

from flash.drift.findings import Finding, Remedy
from flash.drift.look import HostReport
from qtrade.manifest import DriftKind

NOW = 1_800_000_000.0


def finding(kind: str = "file", subject: str = "/etc/motd", remedy: Remedy = Remedy.REBOOT, **more: str) -> Finding:
    """Return a finding."""
    return Finding(DriftKind(kind), subject, "it differs", remedy, **more)


def report(*findings: Finding, **changes: Any) -> HostReport:
    """Return a report of rpc-1 with these findings."""
    fields: dict[str, Any] = {
        "host": "rpc-1", "environment": "development", "version": "0.1.0", "findings": findings, "ignored": (), "expired_ignores": (),
        "at": NOW, "took_s": 1.0, "boot_id": "b-1", "drained": (),
    }  # fmt: skip
    return HostReport(**{**fields, **changes})
