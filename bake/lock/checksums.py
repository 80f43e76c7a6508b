"""Read checksum files as upstreams publish them."""

import re
from urllib.parse import unquote

from qtrade.errors import NotFound

# `<digest>  name` (sha256sum), `<digest> *name` (its binary mode), `SHA256 (name) = <digest>` (BSD), ` <digest> <size> name` (dpkg).
_PLAIN = re.compile(r"^\s*([0-9a-fA-F]{64})\s+\*?(?:(\d+)\s+)?(\S.*?)\s*$")
_BSD = re.compile(r"^SHA256 ?\((.+)\) ?= ?([0-9a-fA-F]{64})\s*$")
_ALONE = re.compile(r"^\s*([0-9a-fA-F]{64})\s*$")


def find_checksum(text: str, file: str, *, source: str) -> str:
    """Return the SHA-256 of `file` that a checksum file names; `source` names the checksum file in errors.

    A file of one digest without a name (`<asset>.sha256`) is about whatever it stands beside. Names may be escaped (`%2B`) or begin
    with `./`. Raises `NotFound`, listing the names there are, also when one name has two digests.
    """
    entries: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := _BSD.match(line):
            entries.setdefault(_bare(match[1]), set()).add(match[2].lower())
        elif match := _PLAIN.match(line):
            entries.setdefault(_bare(match[3]), set()).add(match[1].lower())
        elif match := _ALONE.match(line):
            entries.setdefault("", set()).add(match[1].lower())
    wanted = entries.get(_bare(file)) or (entries.get("") if set(entries) == {""} else None)
    if wanted is None or len(wanted) != 1:
        names = ", ".join(sorted(name for name in entries if name)) or "none"
        problem = "names no digest of" if wanted is None else "names several digests of"
        raise NotFound(
            f"{source} {problem} {file}",
            details=f"files that it names: {names}",
            resolution="correct the asset, the version or `checksums` in the recipe",
        )
    return next(iter(wanted))


def _bare(name: str) -> str:
    return unquote(name).removeprefix("./")
