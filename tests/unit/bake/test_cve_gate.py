"""Findings and the gate's rule."""

from datetime import date

import pytest

from bake.cve.findings import Finding, find_issues, is_older
from bake.cve.gate import blocking_reason, judge
from bake.cve.tracker import issues_of
from bake.inventory import Package
from qtrade.manifest import Gate, Waiver
from tests.fakes.tracker import issue

pytestmark = pytest.mark.unit

TODAY = date(2026, 11, 23)


def package(name: str, version: str, source: str = "") -> Package:
    return Package(name, version, "amd64", source or name, version, "", "base")


def finding(**changes: str) -> Finding:
    fields = {
        "cve": "CVE-2026-0001",
        "package": "openssl",
        "version": "3.5.1-1",
        "status": "open",
        "fixed": "",
        "urgency": "not yet assigned",
        "nodsa": "",
        "binaries": ("libssl3t64",),
    }
    return Finding.model_validate({**fields, **changes})


def waiver(**changes: object) -> Waiver:
    fields = {
        "cve": "CVE-2026-0001",
        "package": "openssl",
        "reason": "not reachable here",
        "expires": TODAY,
        "by": "ops",
    }
    return Waiver.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1", "1.0-1"),
        ("10", "1:1"),
        ("1.9-1", "1.10-1"),
        ("3.5.1-1~deb13u1", "3.5.1-1"),
        ("3.5.1-1", "3.5.1-1+deb13u1"),
        ("6.12.99-1", "6.12.117-1"),
        ("2.41-12+deb13u4", "2.41-12+deb13u5"),
    ],
)
def test_versions_are_ordered_as_dpkg_does(older: str, newer: str) -> None:
    assert is_older(older, newer)
    assert not is_older(newer, older)
    assert not is_older(older, older)


@pytest.mark.parametrize(
    ("entry", "version", "is_found"),
    [
        (issue("resolved", "3.5.2-1"), "3.5.1-1", True),
        (issue("resolved", "3.5.2-1"), "3.5.2-1", False),
        (issue("resolved", "3.5.2-1"), "3.5.2-1~deb13u1", True),
        (issue("resolved", "0"), "3.5.1-1", False),
        (issue("resolved"), "3.5.1-1", True),
        (issue("open"), "99", True),
        (issue("undetermined"), "99", True),
    ],
)
def test_a_finding_is_what_is_not_fixed_in_this_version(entry, version, is_found) -> None:
    other = {"other": {"CVE-2026-0009": issue()}}
    issues = issues_of({"openssl": {"CVE-2026-0001": entry}, **other}, "trixie", "here")
    found = find_issues([package("libssl3t64", version, "openssl"), package("openssl", version)], issues)
    assert [(item.cve, item.package, item.binaries) for item in found] == (
        [("CVE-2026-0001", "openssl", ("libssl3t64", "openssl"))] if is_found else []
    )


def test_packages_are_joined_by_source_not_by_name() -> None:
    issues = issues_of({"libssl3t64": {"CVE-2026-0001": issue()}}, "trixie", "here")
    assert find_issues([package("libssl3t64", "1", "openssl")], issues) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"urgency": "high"}, "urgency high"),
        ({"urgency": "medium"}, ""),
        ({"urgency": "not yet assigned"}, ""),
        ({"status": "resolved", "fixed": "3.5.2-1"}, "fixed in 3.5.2-1"),
        ({"status": "resolved", "fixed": "3.5.2-1", "urgency": "low"}, "fixed in 3.5.2-1"),
        ({"status": "resolved", "fixed": "3.5.2-1", "urgency": "unimportant"}, ""),
        ({"status": "resolved", "fixed": ""}, ""),
        ({"status": "undetermined", "urgency": "high"}, "urgency high"),
        ({"urgency": "end-of-life"}, ""),
    ],
)
def test_the_rule_is_high_urgency_or_a_fix_in_the_suite(changes, reason: str) -> None:
    assert blocking_reason(finding(**changes), Gate()) == reason


def test_the_rule_can_be_set() -> None:
    fixable = finding(status="resolved", fixed="9")
    assert blocking_reason(fixable, Gate(fix_available=False)) == ""
    assert blocking_reason(finding(urgency="low"), Gate(urgency="low")) == "urgency low"
    assert blocking_reason(finding(urgency="end-of-life"), Gate(urgency="not yet assigned")) == "urgency end-of-life"
    assert blocking_reason(finding(urgency="unimportant"), Gate(urgency="not yet assigned")) == ""


def test_a_waiver_counts_through_its_last_day() -> None:
    high = finding(urgency="high")
    verdict = judge((high,), Gate(), (waiver(),), TODAY)
    assert verdict.passed
    assert verdict.judged[0].waiver == waiver()
    late = judge((high,), Gate(), (waiver(),), date(2026, 11, 24))
    assert not late.passed
    assert late.unused == ("CVE-2026-0001 in openssl: expired on 2026-11-23",)


@pytest.mark.parametrize("changes", [{"cve": "CVE-2026-0002"}, {"package": "bash"}])
def test_a_waiver_for_something_else_does_not_count(changes) -> None:
    assert not judge((finding(urgency="high"),), Gate(), (waiver(**changes),), TODAY).passed


def test_what_needs_no_waiver_takes_none_and_refused_ones_are_named() -> None:
    verdict = judge((finding(),), Gate(), (waiver(),), TODAY, ("CVE-2026-0005 in bash: no signature",))
    assert verdict.passed
    assert verdict.judged[0].waiver is None
    assert verdict.unused == ("CVE-2026-0005 in bash: no signature",)
