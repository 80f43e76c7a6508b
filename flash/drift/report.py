"""Reports of drift as people and programs read them."""

import time
from dataclasses import asdict
from typing import Any

from flash.drift.findings import Finding, Remedy
from flash.drift.look import HostReport
from flash.manual_access import ManualAccess

_SHOWN = 160


def document(reports: tuple[HostReport, ...]) -> dict[str, Any]:
    """Return the reports as JSON: `drifted`, and `hosts` with findings, ignored findings and expired ignores."""
    return {
        "schema_version": 1,
        "drifted": any(report.drifted for report in reports),
        "hosts": [host_document(report) for report in reports],
    }


def host_document(report: HostReport) -> dict[str, Any]:
    """Return one report as JSON."""
    return asdict(report) | {"drifted": report.drifted}


def render_text(reports: tuple[HostReport, ...]) -> str:
    """Return the reports as lines."""
    return "\n".join(line for report in reports for line in _render_host(report))


def _render_host(report: HostReport) -> list[str]:
    state = f"{len(report.findings)} drifted" if report.drifted else "no drift"
    version = f" {report.version}" if report.version else ""
    lines = [f"{report.host}{version}: {state} ({report.took_s:.1f} s)"]
    for finding in report.findings:
        lines.append(f"  {finding.kind}: {finding.subject}: {finding.what}")
        lines += [
            f"    {name} {_short(text)}"
            for name, text in (("expected", finding.expected), ("found", finding.found))
            if text
        ]
        lines.append(f"    cure: {cure_of(finding)}")
    lines += [
        f"  ignored until {one.expires} ({one.by}: {one.reason}): {one.finding.kind}: {one.finding.subject}"
        for one in report.ignored
    ]
    lines += [f"  {line}" for line in report.expired_ignores]
    return lines + [f"  {describe_access(one)}" for one in report.accesses]


def describe_access(one: ManualAccess) -> str:
    """Return one use of the way in as a line."""
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(one.at))
    account = f" as {one.account}" if one.account else ""
    ended = "no end seen" if one.code is None else f"code {one.code}"
    return f"manual access {at}: {one.who}, {one.how}{account}: {one.reason or 'no reason given'} ({one.command or 'no command'}; {ended})"


def cure_of(finding: Finding) -> str:
    """Return what to do about a finding, in words."""
    return {Remedy.PUSH: "push the config again", Remedy.REBOOT: "reboot", Remedy.HAND: finding.hint or "by hand"}[
        finding.remedy
    ]


def _short(text: str) -> str:
    line = " | ".join(text.splitlines())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
