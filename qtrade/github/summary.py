"""What a run shows on its page: how its steps ended and what it worked on. Never a value of a secret, never Markdown of others."""

import json
from collections.abc import Mapping
from typing import Any

from qtrade.errors import BadInput
from qtrade.redaction import redact

_SIGNS = {"success": "✓", "failure": "✗", "cancelled": "✗", "skipped": "-"}
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>()#+!|~&"} | {"\n": " ", "\r": " "})


def read_outcomes(text: str) -> dict[str, str]:
    """Return how each step or job ended, of `toJSON(steps)` or `toJSON(needs)`. Raises `BadInput`."""
    try:
        document = json.loads(text or "{}")
        return {str(name): _outcome(fields) for name, fields in document.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise BadInput(
            "the steps are no JSON of GitHub's", resolution="give `${{ toJSON(steps) }}` or `${{ toJSON(needs) }}`"
        ) from None


def render_summary(
    title: str, facts: Mapping[str, str], outcomes: Mapping[str, str], lists: Mapping[str, tuple[str, ...]]
) -> str:
    """Return Markdown: a heading, the facts, the steps, and lists of lines by heading; empty parts are left out."""
    lines = [f"## {plain(title)}", ""]
    rows = [(name, value) for name, value in facts.items() if value]
    if rows:
        lines += ["| | |", "|---|---|", *(f"| {plain(name)} | {plain(value)} |" for name, value in rows), ""]
    if outcomes:
        lines += ["| step | |", "|---|---|"]
        lines += [f"| {plain(name)} | {_SIGNS.get(how, '?')} {plain(how)} |" for name, how in outcomes.items()]
        lines.append("")
    for heading, items in lists.items():
        if items:
            lines += [f"### {plain(heading)}", "", *(f"- {plain(item)}" for item in items), ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; secrets are hidden first, as their marks would be changed."""
    return redact(text).translate(_SPECIAL)


def _outcome(fields: Any) -> str:
    return str(fields["outcome"] if "outcome" in fields else fields["result"])
