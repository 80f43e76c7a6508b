"""Which packages the image's database names, and which the host's does now: the overlay holds it, so they differ by hand only."""

from pathlib import Path
from typing import Dict, List

from .lower import Lower

_STATUS = "var/lib/dpkg/status"


def read_changes(root: Path, lower: Lower) -> List[Dict[str, str]]:
    """Return `{package, was, now}` for each package whose version or state differs; empty stands for none."""
    place = root / _STATUS
    before = lower.find(_STATUS)
    if before is None or not place.is_file() or place.read_bytes() == before.read_bytes():
        return []
    was, now = (_parse(path.read_text(errors="replace")) for path in (before, place))
    return [
        {"package": name, "was": was.get(name, ""), "now": now.get(name, "")}
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]


def _parse(text: str) -> Dict[str, str]:
    found = {}
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if "Package" in fields:
            state = fields.get("Status", "").split(" ")[-1]
            name = f"{fields['Package']}:{fields.get('Architecture', '')}"
            found[name] = f"{fields.get('Version', '')} {state}".strip()
    return found
