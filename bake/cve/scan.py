"""Scan an image of the store against a snapshot, without rebuilding anything."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bake.cve.findings import Finding, find_issues
from bake.cve.gate import Judged, Verdict, judge
from bake.cve.records import ScanRecord, add_record
from bake.cve.snapshot import Snapshot, latest_snapshot, load_issues
from bake.cve.waivers import WaiverSet, read_waivers
from bake.inventory import Blobs, ImageInventory, image_inventory
from qtrade.errors import Refused
from qtrade.manifest import Gate, Image
from qtrade.settings import Settings
from qtrade.signing import PublicKey
from qtrade.toolsroot import ToolsRoot

_SHOWN = 20


@dataclass(frozen=True)
class Scan:
    """What a scan found, and when. `uncovered` are the components: the tracker knows nothing of them."""

    image: Image
    time: datetime
    snapshot: Snapshot
    suite: str
    gate: Gate
    verdict: Verdict
    uncovered: tuple[str, ...]

    def predicate(self) -> dict[str, Any]:
        """Return the predicate of the CVE attestation."""
        judged = self.verdict.judged
        return {
            # A statement like an earlier one would not count as the newer one.
            "time": self.time.isoformat(),
            "snapshot": self.snapshot.sha256,
            "snapshot_time": self.snapshot.time.isoformat(),
            "suite": self.suite,
            "gate": self.gate.model_dump(mode="json"),
            "passed": self.verdict.passed,
            "open": [_open_fields(item) for item in judged if item.waiver is None],
            "waived": [
                {**item.finding.to_dict(), "waiver": item.waiver.model_dump(mode="json")}
                for item in judged
                if item.waiver is not None
            ],
            "waivers_unused": list(self.verdict.unused),
            "uncovered": list(self.uncovered),
        }


def scan_image(
    settings: Settings,
    inventory: ImageInventory,
    now: datetime,
    *,
    trusted: tuple[PublicKey, ...],
    snapshot: Snapshot | None = None,
) -> Scan:
    """Scan an image and keep a record of it. Raises `NotFound`, or `Refused` when the snapshot is missing or too old.

    `trusted` are the keys whose waivers count; `snapshot` is the latest unless it is given.
    """
    image = inventory.image
    waivers = read_waivers(settings, image.name, trusted)
    used = snapshot or latest_snapshot(settings, now, waivers.gate.snapshot_days)
    suite = suite_of(inventory)
    findings = image_findings(settings, inventory, used)
    record = ScanRecord(
        recipe=image.name,
        version=image.version,
        image_id=image.id,
        time=now,
        snapshot=used.sha256,
        snapshot_time=used.time,
        findings=findings,
    )
    add_record(settings, record)
    return Scan(
        image, now, used, suite, waivers.gate, _verdict(findings, waivers, now), uncovered_components(inventory)
    )


def check_snapshot(settings: Settings, recipe: str, now: datetime, *, trusted: tuple[PublicKey, ...]) -> None:
    """Raise `NotFound` or `Refused` where there is no snapshot that a scan could use: before a bake, not after it."""
    latest_snapshot(settings, now, read_waivers(settings, recipe, trusted).gate.snapshot_days)


def check_image(
    settings: Settings,
    blobs: Blobs,
    image: Image,
    now: datetime,
    *,
    trusted: tuple[PublicKey, ...],
    tools: Callable[[], ToolsRoot] | None = None,
) -> Scan:
    """Scan `image` as the gate of a bake. Raises `Refused`, naming the findings, when it does not pass."""
    scan = scan_image(settings, image_inventory(settings, blobs, image, tools), now, trusted=trusted)
    require_passed(scan)
    return scan


def require_passed(scan: Scan) -> None:
    """Raise `Refused` when something stops the image of `scan`."""
    blocking = scan.verdict.blocking
    if not blocking:
        return
    lines = [f"  {item.finding.cve} {item.finding.package} {item.finding.version}: {item.reason}" for item in blocking]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    unused = [f"  waiver without effect: {line}" for line in scan.verdict.unused]
    raise Refused(
        f"{len(blocking)} vulnerabilit{'y stops' if len(blocking) == 1 else 'ies stop'} {scan.image.name} {scan.image.version}",
        details="\n".join([*lines[:_SHOWN], *more, *unused]),
        resolution="bake with newer packages (qtrade lock), or waive: qtrade images waive CVE --package P --reason R --expires DATE",
    )


def image_findings(settings: Settings, inventory: ImageInventory, snapshot: Snapshot) -> tuple[Finding, ...]:
    """Return what the snapshot has against the image's packages of the distribution; components are not among them."""
    if not inventory.packages:
        raise Refused(
            f"{inventory.image.name} {inventory.image.version} has no package database: nothing says what to scan for",
            resolution="bake it with a base layer that ships /var/lib/dpkg",
        )
    components = {(component.name, component.version) for component in inventory.image.components}
    packages = [item for item in inventory.packages if (item.name, item.version) not in components]
    return find_issues(packages, load_issues(settings, snapshot, suite_of(inventory)))


def uncovered_components(inventory: ImageInventory) -> tuple[str, ...]:
    """Return the components: the tracker knows Debian's packages only."""
    return tuple(f"{component.name} {component.version}" for component in inventory.image.components)


def suite_of(inventory: ImageInventory) -> str:
    """Return the Debian suite of an image. Raises `Refused` for another distribution."""
    system = inventory.system
    if system.get("ID") != "debian" or not system.get("VERSION_CODENAME"):
        raise Refused(
            f"{inventory.image.name} is no Debian image: its os-release says {system.get('ID', 'nothing')}",
            details="the Debian security tracker knows nothing of other distributions",
            resolution="scan the image's SBOM with a scanner for its distribution",
        )
    return system["VERSION_CODENAME"]


def new_findings(findings: tuple[Finding, ...], before: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings whose CVE and package `before` does not have."""
    known = {finding.identity for finding in before}
    return tuple(finding for finding in findings if finding.identity not in known)


def _verdict(findings: tuple[Finding, ...], waivers: WaiverSet, now: datetime) -> Verdict:
    return judge(findings, waivers.gate, waivers.signed, now.date(), waivers.refused)


def _open_fields(item: Judged) -> dict[str, Any]:
    return {**item.finding.to_dict(), "blocks": item.blocks, "reason": item.reason}
