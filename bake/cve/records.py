"""What was found when: one record per image and snapshot, so that a later scan can say what is new."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bake.cve.findings import Finding
from bake.whole_file import write_whole
from qtrade.errors import NotFound
from qtrade.manifest.base import Model, Sha256
from qtrade.settings import Settings


class ScanRecord(Model):
    """A scan that was made. `time` in UTC; `findings` as they were, waived or not."""

    schema_version: Literal[1] = 1
    recipe: str
    version: str
    image_id: Sha256
    time: datetime
    snapshot: Sha256
    snapshot_time: datetime
    findings: tuple[Finding, ...]


def add_record(settings: Settings, record: ScanRecord) -> None:
    """Keep `record`. The same image and snapshot again change nothing: findings are a function of the two."""
    path = _folder(settings, record.image_id) / f"{record.snapshot}.json"
    if not path.is_file():
        write_whole(path, record.model_dump_json().encode())


def read_records(settings: Settings, image_id: str) -> tuple[ScanRecord, ...]:
    """Return the scans of an image, oldest first. A record that cannot be read is passed over."""
    found = []
    for path in _folder(settings, image_id).glob("[!.]*.json"):
        try:
            found.append(ScanRecord.model_validate_json(path.read_bytes()))
        except ValidationError:
            continue  # by another qtrade
    return tuple(sorted(found, key=lambda record: record.time))


def last_record_by(settings: Settings, image_id: str, day: date) -> ScanRecord:
    """Return the last scan made on `day` (UTC) or before it. Raises `NotFound`, naming the days that there are."""
    records = read_records(settings, image_id)
    earlier = [record for record in records if record.time.astimezone(UTC).date() <= day]
    if not earlier:
        days = ", ".join(sorted({record.time.date().isoformat() for record in records})) or "none"
        raise NotFound(
            f"no scan of this image was recorded on {day.isoformat()} or before",
            details=f"image {image_id[:12]}; recorded scans: {days}",
            resolution="name a later day, or a version to compare with",
        )
    return earlier[-1]


def _folder(settings: Settings, image_id: str) -> Path:
    return settings.state_dir / "scans" / image_id
