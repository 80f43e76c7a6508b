"""Releases of qtrade itself: the tag has to be the package's version, its text is the changelog's, its files are the built ones."""

import re
from collections.abc import Sequence
from pathlib import Path

from qtrade.errors import BadInput, NotFound
from qtrade.github.api import GitHub


def release_notes(changelog: str, version: str) -> str:
    """Return what the changelog says of a version: the lines below `## [version]` or `## version`. Raises `NotFound`."""
    found = re.search(rf"(?ms)^## \[?v?{re.escape(version)}(?![\w.])\]?[^\n]*\n(.*?)(?=^##? |\Z)", changelog)
    if found is None or not found[1].strip():
        raise NotFound(f"CHANGELOG.md says nothing of {version}", resolution=f"give it a heading `## {version}`")
    return found[1].strip()


def check_tag(tag: str, version: str) -> None:
    """Raise `BadInput` unless the tag is the package's version."""
    if tag != f"v{version}":
        raise BadInput(
            f"the tag is {tag!r:.80}, the package is {version}", resolution=f"tag it v{version}, or change __version__"
        )


def publish_release(api: GitHub, tag: str, notes: str, files: Sequence[Path]) -> str:
    """Make the release as a draft, add the files, publish it, and return its address. Raises as `GitHub.get`."""
    made = api.post("releases", {"tag_name": tag, "name": tag, "body": notes, "draft": True})
    address = str(made["upload_url"]).partition("{")[0]
    for path in files:
        headers = {"Content-Type": "application/octet-stream"}
        api.call("POST", address, params={"name": path.name}, headers=headers, content=path.read_bytes())
    return str(api.patch(f"releases/{made['id']}", {"draft": False})["html_url"])
