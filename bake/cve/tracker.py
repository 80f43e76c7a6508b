"""The Debian security tracker's data: what it says of the source packages of one suite.

Shape (https://security-tracker.debian.org/tracker/data/json): source package -> CVE -> {"releases": {suite: {"status":
"open" | "resolved" | "undetermined", "fixed_version": "…", "urgency": "…", "nodsa": "…"}}}. A fixed version of "0" means that
the suite was never affected. Urgencies may end in stars (guessed by the tracker).
"""

import json
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from qtrade.errors import BadInput
from qtrade.manifest.base import Model

Status = Literal["open", "resolved", "undetermined"]
Urgencies = Literal["unimportant", "end-of-life", "not yet assigned", "low", "medium", "high"]


class Issue(Model):
    """What the tracker says of one CVE in one source package of the suite. `fixed` is empty when there is no fix."""

    cve: str
    status: Status
    fixed: str
    urgency: Urgencies
    nodsa: str


Issues = dict[str, tuple[Issue, ...]]
ISSUES = TypeAdapter(Issues)


def parse_tracker(content: bytes, source: str) -> dict[str, Any]:
    """Return the tracker's document. Raises `BadInput` when `content`, got from `source`, is not of its shape."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise _bad(source, f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or not document:
        raise _bad(source, "it is no mapping of source packages")
    for package, issues in document.items():
        if not isinstance(issues, dict):
            raise _bad(source, f"{package}: this is no mapping of CVEs")
        for cve, fields in issues.items():
            if not isinstance(fields, dict) or not isinstance(fields.get("releases"), dict):
                raise _bad(source, f"{package}: {cve}: it has no `releases`")
    return document


def issues_of(document: dict[str, Any], suite: str, source: str) -> Issues:
    """Return the issues of `suite` that can concern a package. Raises `BadInput`, also when the suite is not in it at all."""
    found: Issues = {}
    is_known = False
    for package, issues in sorted(document.items()):
        kept = []
        for cve, fields in sorted(issues.items()):
            release = fields["releases"].get(suite)
            if release is None:
                continue
            is_known = True
            if not (release.get("status") == "resolved" and release.get("fixed_version") == "0"):
                kept.append(_issue(cve, release, f"{source}: {package}: {cve}: {suite}"))
        if kept:
            found[package] = tuple(kept)
    if not is_known:
        raise BadInput(
            f"the security tracker's data say nothing of {suite}",
            details=f"read from {source}",
            resolution="use a suite that Debian supports; other distributions have other data",
        )
    return found


def _issue(cve: str, release: dict[str, Any], where: str) -> Issue:
    try:
        return Issue.model_validate(
            {
                "cve": cve,
                "status": release.get("status"),
                "fixed": release.get("fixed_version") or "",
                "urgency": str(release.get("urgency", "")).rstrip("*").strip(),
                "nodsa": release.get("nodsa") or "",
            }
        )
    except ValidationError as error:
        raise _bad(where, str(error)) from error


def _bad(source: str, why: str) -> BadInput:
    return BadInput(
        "this is not the data of the Debian security tracker",
        details=f"{source}: {why}",
        resolution="fetch it again: qtrade images cve --update",
    )
