"""Snapshots of the security tracker, fetched from a real server on the loopback."""

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bake.cve.snapshot import _NoDowngrade, fetch_snapshot, find_snapshot, latest_snapshot, load_issues
from bake.cve.tracker import issues_of
from qtrade.errors import BadInput, NotFound, Refused, ToolError, TrustError
from qtrade.settings import Settings
from tests.fakes.examples import make_settings
from tests.fakes.tracker import TrackerServer, issue, serve_tracker

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOCUMENT = {"openssl": {"CVE-2026-0001": issue("resolved", "3.5.2-1")}, "bash": {"CVE-2026-0002": issue()}}


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    with serve_tracker(DOCUMENT) as server:
        yield server


@pytest.mark.parametrize("gzipped", [True, False])
def test_a_snapshot_is_stored_by_digest_with_its_time(settings, tracker, gzipped) -> None:
    tracker.gzipped = gzipped
    found = fetch_snapshot(settings, tracker.url, NOW)
    stored = (settings.cache_dir / "cve" / f"{found.sha256}.json").read_bytes()
    assert stored == tracker.body
    assert found.sha256 == hashlib.sha256(tracker.body).hexdigest()
    assert (found.time, found.fetched) == (NOW, NOW)
    assert latest_snapshot(settings, NOW, 7) == found
    assert tracker.requests[0]["Accept-Encoding"] == "gzip"


def test_the_servers_own_time_counts_but_never_the_future(settings, tracker) -> None:
    tracker.modified = "Fri, 20 Nov 2026 12:00:00 GMT"
    assert fetch_snapshot(settings, tracker.url, NOW).time == NOW - timedelta(days=3)
    tracker.modified = "Fri, 27 Nov 2026 12:00:00 GMT"
    tracker.document = {**DOCUMENT, "more": {}}
    assert fetch_snapshot(settings, tracker.url, NOW).time == NOW


def test_redirects_are_followed(settings, tracker) -> None:
    tracker.fault = "redirect"
    assert fetch_snapshot(settings, tracker.url, NOW).sha256 == hashlib.sha256(tracker.body).hexdigest()
    assert [request["path"] for request in tracker.requests] == ["/tracker/data/json", "/moved"]


def test_a_redirect_from_https_to_http_is_refused() -> None:
    request = urllib.request.Request("https://tracker.example.org/json")
    with pytest.raises(TrustError, match="is not https"):
        _NoDowngrade().redirect_request(request, None, 302, "Found", {}, "http://tracker.example.org/json")
    follows = _NoDowngrade().redirect_request(request, None, 302, "Found", {}, "https://b.example.org/json")
    assert follows.full_url == "https://b.example.org/json"


def test_unchanged_data_are_not_sent_again_and_become_younger(settings, tracker) -> None:
    first = fetch_snapshot(settings, tracker.url, NOW)
    later = NOW + timedelta(days=5)
    second = fetch_snapshot(settings, tracker.url, later)
    assert tracker.requests[1]["If-None-Match"] == tracker.etag
    assert (second.sha256, second.fetched, second.time) == (first.sha256, later, later)
    assert latest_snapshot(settings, NOW + timedelta(days=10), 7) == second


def test_a_server_that_stands_still_does_not_make_its_data_younger(settings, tracker) -> None:
    tracker.modified = "Fri, 20 Nov 2026 12:00:00 GMT"
    fetch_snapshot(settings, tracker.url, NOW)
    again = fetch_snapshot(settings, tracker.url, NOW + timedelta(days=30))
    assert "If-None-Match" in tracker.requests[1]
    assert again.time == NOW - timedelta(days=3)


def test_data_that_are_gone_from_the_cache_are_fetched_anew(settings, tracker) -> None:
    first = fetch_snapshot(settings, tracker.url, NOW)
    path = settings.cache_dir / "cve" / f"{first.sha256}.json"
    path.unlink()
    fetch_snapshot(settings, tracker.url, NOW)
    assert "If-None-Match" not in tracker.requests[1]
    assert path.is_file()


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("truncated", ToolError, "broke off|IncompleteRead"),
        ("bad-gzip", ToolError, "broken gzip"),
        ("garbage", BadInput, "not JSON"),
        ("html", BadInput, "not JSON"),
        ("error", ToolError, "503"),
    ],
)
def test_a_bad_answer_leaves_the_snapshot_that_was_there(settings, tracker, fault: str, error, said: str) -> None:
    good = fetch_snapshot(settings, tracker.url, NOW)
    tracker.document, tracker.fault = {**DOCUMENT, "more": {}}, fault
    with pytest.raises(error) as caught:
        fetch_snapshot(settings, tracker.url, NOW + timedelta(days=1))
    assert any(word in f"{caught.value.brief} {caught.value.details}" for word in said.split("|")), (
        caught.value.render()
    )
    assert len(tracker.requests) == 2
    assert find_snapshot(settings) == good
    assert load_issues(settings, good, "trixie")


def test_an_unreachable_server_is_an_error_with_a_cure(settings, tracker) -> None:
    with serve_tracker({}) as gone:
        url = gone.url
    with pytest.raises(ToolError, match="cannot fetch") as caught:
        fetch_snapshot(settings, url, NOW)
    assert "--url" in caught.value.resolution
    assert find_snapshot(settings) is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no mapping of source packages"),
        ({}, "no mapping of source packages"),
        ({"a": []}, "a: this is no mapping of CVEs"),
        ({"a": {"CVE-2026-1": {"status": "open"}}}, "a: CVE-2026-1: it has no `releases`"),
    ],
)
def test_data_of_another_shape_are_refused(settings, tracker, document, said: str) -> None:
    tracker.document = document
    with pytest.raises(BadInput) as caught:
        fetch_snapshot(settings, tracker.url, NOW)
    assert said in caught.value.details


def test_a_snapshot_may_be_seven_days_old_and_no_more(settings, tracker) -> None:
    fetch_snapshot(settings, tracker.url, NOW)
    assert latest_snapshot(settings, NOW + timedelta(days=7), 7)
    with pytest.raises(Refused, match="7 days old; the limit is 7") as caught:
        latest_snapshot(settings, NOW + timedelta(days=7, seconds=1), 7)
    assert "--update" in caught.value.resolution


def test_no_snapshot_is_an_error_with_a_cure(settings) -> None:
    with pytest.raises(NotFound) as caught:
        latest_snapshot(settings, NOW, 7)
    assert "--update" in caught.value.resolution


def test_the_extract_of_a_suite_is_read_instead_of_the_whole(settings, tracker) -> None:
    found = fetch_snapshot(settings, tracker.url, NOW)
    first = load_issues(settings, found, "trixie")
    (settings.cache_dir / "cve" / f"{found.sha256}.json").unlink()
    assert load_issues(settings, found, "trixie") == first
    with pytest.raises(NotFound):
        load_issues(settings, found, "sid")


def test_stored_data_that_were_changed_are_refused_and_removed(settings, tracker) -> None:
    found = fetch_snapshot(settings, tracker.url, NOW)
    path = settings.cache_dir / "cve" / f"{found.sha256}.json"
    path.write_text(json.dumps({**DOCUMENT, "openssl": {}}))
    with pytest.raises(TrustError, match="changed after it was fetched"):
        load_issues(settings, found, "trixie")
    assert not path.exists()


def test_issues_are_those_of_the_suite_that_was_ever_affected() -> None:
    document = {
        "a": {"CVE-2026-1": issue("resolved", "0"), "CVE-2026-2": issue("open", urgency="medium**")},
        "b": {"CVE-2026-3": issue(suite="bookworm")},
    }
    found = issues_of(document, "trixie", "here")
    assert {package: [item.cve for item in items] for package, items in found.items()} == {"a": ["CVE-2026-2"]}
    assert found["a"][0].urgency == "medium"


def test_a_suite_that_is_not_in_the_data_is_an_error_not_an_all_clear() -> None:
    with pytest.raises(BadInput, match="say nothing of noble"):
        issues_of(DOCUMENT, "noble", "here")


@pytest.mark.parametrize("change", [{"status": "fixed"}, {"urgency": "dire"}, {"status": None}])
def test_a_word_that_is_not_known_is_an_error(change) -> None:
    entry = issue()
    entry["releases"]["trixie"].update(change)
    with pytest.raises(BadInput) as caught:
        issues_of({"a": {"CVE-2026-1": entry}}, "trixie", "here")
    assert "a: CVE-2026-1: trixie" in caught.value.details
