"""Re-scans of published images, from cached inventories: no blob is opened, nothing is rebuilt."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bake.cve.records import read_records
from bake.cve.report import Report, render_report, require_all_passed, scan_versions
from bake.cve.scan import check_image
from bake.cve.snapshot import fetch_snapshot
from bake.cve.waivers import add_waiver, parse_waiver
from bake.image import sign
from qtrade.errors import NotFound, Refused
from qtrade.manifest.image import ImageComponent
from qtrade.settings import Settings
from qtrade.signing import ensure_key
from qtrade.store import LocalStore
from tests.fakes.examples import make_settings, sha
from tests.fakes.inventories import cache_inventory, inventory, paragraph, status
from tests.fakes.tracker import TrackerServer, issue, serve_tracker

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
AGAVE = ImageComponent(name="agave", version="4.2.1", sha256=sha("agave"), standin=True)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    document = {
        "openssl": {"CVE-2026-0001": issue("resolved", "3.5.2-1"), "CVE-2026-0002": issue(urgency="low")},
        "agave": {"CVE-2026-0003": issue(urgency="high")},
    }
    with serve_tracker(document) as server:
        yield server


def publish(settings: Settings, version: str, openssl: str, **changes: Any) -> str:
    made = inventory(
        status(paragraph("openssl", openssl), paragraph("agave", "4.2.1")),
        version=version,
        components=(AGAVE,),
        **changes,
    )
    image = cache_inventory(settings, made)
    LocalStore(settings.store).publish(image, sign(image, ensure_key(settings.keys_dir, "build")))
    return image.id


def scan(settings: Settings, version: str | None, since: str | None = None, now: datetime = NOW) -> tuple[Report, ...]:
    trusted = (ensure_key(settings.keys_dir, "promote").public,)
    return scan_versions(settings, LocalStore(settings.store), "demo", version, since, now=now, trusted=trusted)


def cves(report: Report) -> list[str]:
    return [item.finding.cve for item in report.scan.verdict.judged]


def test_a_published_image_is_scanned_from_its_inventory(settings, tracker) -> None:
    publish(settings, "0.1.0", "3.5.1-1")
    snapshot = fetch_snapshot(settings, tracker.url, NOW)
    (report,) = scan(settings, "0.1.0")
    assert cves(report) == ["CVE-2026-0001", "CVE-2026-0002"]
    predicate = report.scan.predicate()
    assert (predicate["snapshot"], predicate["snapshot_time"]) == (snapshot.sha256, NOW.isoformat())
    assert [(item["cve"], item["blocks"]) for item in predicate["open"]] == [
        ("CVE-2026-0001", True),
        ("CVE-2026-0002", False),
    ]
    assert (predicate["passed"], predicate["waived"], predicate["suite"]) == (False, [], "trixie")
    assert predicate["uncovered"] == ["agave 4.2.1"]
    with pytest.raises(Refused, match=r"stops demo 0\.1\.0"):
        require_all_passed((report,))


def test_a_signed_waiver_opens_the_gate_and_is_in_the_predicate(settings, tracker) -> None:
    publish(settings, "0.1.0", "3.5.1-1")
    fetch_snapshot(settings, tracker.url, NOW)
    fields = {
        "cve": "CVE-2026-0001",
        "package": "openssl",
        "reason": "no TLS server here",
        "expires": "2026-11-25",
        "by": "o",
    }
    add_waiver(settings, "demo", parse_waiver(fields), ensure_key(settings.keys_dir, "promote"), NOW.date())
    (report,) = scan(settings, "0.1.0")
    require_all_passed((report,))
    (waived,) = report.scan.predicate()["waived"]
    assert (waived["cve"], waived["waiver"]["expires"]) == ("CVE-2026-0001", "2026-11-25")
    assert "waived CVE-2026-0001 openssl 3.5.1-1: fixed in 3.5.2-1; until 2026-11-25 by o" in render_report(report)
    (late,) = scan(settings, "0.1.0", now=NOW + timedelta(days=3))
    assert not late.scan.verdict.passed
    assert "waiver without effect: CVE-2026-0001 in openssl: expired on 2026-11-25" in render_report(late)


def test_all_versions_are_scanned_when_none_is_named(settings, tracker) -> None:
    publish(settings, "0.1.0", "3.5.1-1")
    publish(settings, "0.2.0", "3.5.2-1")
    fetch_snapshot(settings, tracker.url, NOW)
    reports = scan(settings, None)
    assert [(report.scan.image.version, report.scan.verdict.passed) for report in reports] == [
        ("0.1.0", False),
        ("0.2.0", True),
    ]
    with pytest.raises(Refused) as caught:
        require_all_passed(reports)
    assert "0.2.0" not in caught.value.brief


def test_since_a_version_shows_what_the_newer_one_brought(settings, tracker) -> None:
    publish(settings, "0.1.0", "3.5.2-1")
    publish(settings, "0.2.0", "3.5.1-1")
    fetch_snapshot(settings, tracker.url, NOW)
    (report,) = scan(settings, "0.2.0", since="0.1.0")
    assert [item.cve for item in report.new] == ["CVE-2026-0001"]
    assert "1 new since version 0.1.0: 1 block" in render_report(report)
    (back,) = scan(settings, "0.1.0", since="0.2.0")
    assert back.new == ()


def test_since_a_day_shows_what_the_tracker_learnt_after_the_last_scan(settings, tracker) -> None:
    image_id = publish(settings, "0.1.0", "3.5.1-1")
    fetch_snapshot(settings, tracker.url, NOW)
    scan(settings, "0.1.0")
    tracker.document["openssl"]["CVE-2026-0007"] = issue(urgency="high")
    later = NOW + timedelta(days=2)
    fetch_snapshot(settings, tracker.url, later)
    for _ in range(2):
        (report,) = scan(settings, "0.1.0", since="2026-11-24", now=later)
        assert [item.cve for item in report.new] == ["CVE-2026-0007"]
    assert [record.time for record in read_records(settings, image_id)] == [NOW, later]
    assert report.to_dict()["new"][0]["cve"] == "CVE-2026-0007"
    assert scan(settings, "0.1.0", since="2026-11-25", now=later)[0].new == ()


def test_since_a_day_before_any_scan_names_the_days_there_are(settings, tracker) -> None:
    publish(settings, "0.1.0", "3.5.1-1")
    fetch_snapshot(settings, tracker.url, NOW)
    scan(settings, "0.1.0")
    with pytest.raises(NotFound) as caught:
        scan(settings, "0.1.0", since="2026-11-22")
    assert "2026-11-23" in caught.value.details


@pytest.mark.parametrize("since", ["9.9.9", "2026-13-01"])
def test_since_something_unknown_is_an_error(settings, tracker, since: str) -> None:
    publish(settings, "0.1.0", "3.5.1-1")
    fetch_snapshot(settings, tracker.url, NOW)
    with pytest.raises(NotFound):
        scan(settings, "0.1.0", since=since)


def test_a_snapshot_that_is_too_old_is_no_answer(settings, tracker) -> None:
    publish(settings, "0.1.0", "3.5.2-1")
    fetch_snapshot(settings, tracker.url, NOW)
    with pytest.raises(Refused, match="days old"):
        scan(settings, "0.1.0", now=NOW + timedelta(days=8))
    waivers = settings.project / "manifests/waivers/demo.yaml"
    waivers.parent.mkdir()
    waivers.write_text("schema_version: 1\ngate: {snapshot_days: 9}\n")
    assert scan(settings, "0.1.0", now=NOW + timedelta(days=8))


def test_the_gate_of_a_bake_names_findings_and_cure(settings, tracker) -> None:
    made = inventory(status(paragraph("openssl", "3.5.1-1")))
    image = cache_inventory(settings, made)
    fetch_snapshot(settings, tracker.url, NOW)
    with pytest.raises(Refused, match=r"^1 vulnerability stops demo") as caught:
        check_image(settings, LocalStore(settings.store), image, NOW, trusted=())
    assert caught.value.details == "  CVE-2026-0001 openssl 3.5.1-1: fixed in 3.5.2-1"
    assert "qtrade images waive" in caught.value.resolution


def test_an_image_of_another_distribution_is_not_called_clean(settings, tracker) -> None:
    made = inventory({**status(paragraph("openssl", "1")), "etc/os-release": "ID=ubuntu\nVERSION_CODENAME=noble\n"})
    fetch_snapshot(settings, tracker.url, NOW)
    with pytest.raises(Refused, match="is no Debian image"):
        check_image(settings, LocalStore(settings.store), cache_inventory(settings, made), NOW, trusted=())


def test_an_image_without_a_package_database_is_not_called_clean(settings, tracker) -> None:
    made = inventory({"etc/os-release": status()["etc/os-release"]})
    fetch_snapshot(settings, tracker.url, NOW)
    with pytest.raises(Refused, match="no package database"):
        check_image(settings, LocalStore(settings.store), cache_inventory(settings, made), NOW, trusted=())
