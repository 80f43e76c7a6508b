"""Re-scan published images, and say what is new since an earlier scan or another version."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from bake.cve.findings import Finding
from bake.cve.gate import Judged
from bake.cve.records import last_record_by
from bake.cve.scan import Scan, image_findings, new_findings, scan_image
from bake.inventory import Blobs, ImageInventory, image_inventory
from qtrade.errors import NotFound, Refused
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.signing import PublicKey
from qtrade.store import PublishedImage

_SHOWN = 10


class Versions(Blobs, Protocol):
    """What a re-scan needs of a store."""

    def read(self, recipe: str, version: str) -> PublishedImage:
        """Return a version. Raises `NotFound`, `TrustError`."""
        ...

    def versions(self, recipe: str) -> tuple[str, ...]:
        """Return the versions of a recipe."""
        ...


@dataclass(frozen=True)
class Report:
    """A scan; with `since`, what it was compared with, `new` are the findings that were not there then."""

    scan: Scan
    since: str = ""
    new: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types: the predicate of the attestation, and what was compared."""
        image = self.scan.image
        fields = {"recipe": image.name, "version": image.version, "id": image.id, **self.scan.predicate()}
        if self.since:
            fields |= {"since": self.since, "new": [finding.to_dict() for finding in self.new]}
        return fields


def read_inventory(settings: Settings, store: Versions, recipe: str, version: str) -> ImageInventory:
    """Return the inventory of a published version. Raises `NotFound` and the errors of `image_inventory`."""
    image = Image.model_validate_json(store.read(recipe, version).image_text)
    return image_inventory(settings, store, image)


def scan_versions(  # noqa: PLR0913 - a scan is asked for in this many words
    settings: Settings,
    store: Versions,
    recipe: str,
    version: str | None,
    since: str | None,
    *,
    now: datetime,
    trusted: tuple[PublicKey, ...],
) -> tuple[Report, ...]:
    """Scan `version`, or all versions of the recipe.

    `since` is a version, which is then judged by the same snapshot, or a day (YYYY-MM-DD), which means the last recorded
    scan of each image on it or before. Raises `NotFound`, and `Refused` when the snapshot is too old.
    """
    wanted = (version,) if version else store.versions(recipe)
    if not wanted:
        raise NotFound(f"the store has no version of {recipe}", resolution=f"bake one: qtrade bake --recipe {recipe}")
    reports = []
    for name in wanted:
        inventory = read_inventory(settings, store, recipe, name)
        # Before the scan, which leaves a record of its own.
        day = _day(store, recipe, since)
        record = last_record_by(settings, inventory.image.id, day) if day else None
        scan = scan_image(settings, inventory, now, trusted=trusted)
        if since is None:
            reports.append(Report(scan))
            continue
        if record is not None:
            before, label = record.findings, f"the scan of {record.time.isoformat()}"
        else:
            other = read_inventory(settings, store, recipe, since)
            before, label = image_findings(settings, other, scan.snapshot), f"version {since}"
        findings = tuple(item.finding for item in scan.verdict.judged)
        reports.append(Report(scan, label, new_findings(findings, before)))
    return tuple(reports)


def require_all_passed(reports: tuple[Report, ...]) -> None:
    """Raise `Refused`, naming the versions that the gate stops."""
    stopped = [report.scan for report in reports if not report.scan.verdict.passed]
    if stopped:
        raise Refused(
            f"the CVE gate stops {', '.join(f'{scan.image.name} {scan.image.version}' for scan in stopped)}",
            resolution="bake with newer packages, or waive: qtrade images waive CVE --package P --reason R --expires DATE",
        )


def render_report(report: Report, shown: int = _SHOWN) -> str:
    """Return the text for people: all that blocks or is waived, and up to `shown` of the rest."""
    scan, judged = report.scan, report.scan.verdict.judged
    if report.since:
        new = {finding.identity for finding in report.new}
        judged = tuple(item for item in judged if item.finding.identity in new)
    blocking = [item for item in judged if item.blocks]
    waived = [item for item in judged if item.waiver]
    rest = [item for item in judged if not item.blocks and not item.waiver]
    what = f"{len(judged)} new since {report.since}" if report.since else f"{len(judged)} known vulnerabilities"
    made = scan.snapshot.time.isoformat(timespec="minutes")
    lines = [
        f"{scan.image.name} {scan.image.version}: {what}: {len(blocking)} block, {len(waived)} waived, {len(rest)} open",
        f"  image {scan.image.id[:12]}, {scan.suite}, tracker snapshot {scan.snapshot.sha256[:12]} of {made}",
        *[f"  blocks {_line(item)}" for item in blocking],
        *[f"  waived {_line(item)}" for item in waived],
        *[f"  open   {_line(item)}" for item in rest[:shown]],
    ]
    if len(rest) > shown:
        lines.append(f"  and {len(rest) - shown} more open; --json has them all")
    lines += [f"  waiver without effect: {line}" for line in scan.verdict.unused]
    if scan.uncovered:
        lines.append(f"  not in the tracker, so not judged: {', '.join(scan.uncovered)}")
    return "\n".join(lines)


def _line(item: Judged) -> str:
    finding = item.finding
    why = item.reason or (finding.status if finding.status == "undetermined" else f"urgency {finding.urgency}, no fix")
    if item.waiver is not None:
        why += f"; until {item.waiver.expires.isoformat()} by {item.waiver.by}: {item.waiver.reason}"
    return f"{finding.cve} {finding.package} {finding.version}: {why}"


def _day(store: Versions, recipe: str, since: str | None) -> date | None:
    """Return the day that `since` is, or None when it names a version."""
    if since is None or since in store.versions(recipe) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", since):
        return None
    try:
        return date.fromisoformat(since)
    except ValueError as error:
        raise NotFound(f"{since} is neither a version of {recipe} nor a day", details=str(error)) from error
