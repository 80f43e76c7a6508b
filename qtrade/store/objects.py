"""The few verbs that a store asks of what keeps its bytes, with exact semantics. `local` and `s3` speak them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qtrade.errors import ConflictError, NotFound, UsageError

_PART = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,127}")


class Missing(NotFound):
    """There is no object with that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the store has no {key}")


class Exists(ConflictError):
    """There is an object with that key already, with other content."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the store has {key} already, with other content")


class Changed(ConflictError):
    """The object is not the one that the writer had read."""

    def __init__(self, key: str) -> None:
        super().__init__(f"somebody else changed {key} in the store")


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it; `modified_s` is in seconds since 1970, by the clock of what keeps it."""

    key: str
    size: int
    modified_s: float


class Objects(Protocol):
    """Bytes by key. Whatever is read was written whole; a write that was cut off leaves nothing that can be read."""

    def get(self, key: str) -> tuple[bytes, str]:
        """Return the content and its etag, which `put_if` takes. Raises `Missing`."""

    def put(self, key: str, content: bytes) -> None:
        """Write, whatever was there."""

    def put_new(self, key: str, content: bytes) -> None:
        """Write unless something is there. Raises `Exists`, but not where the same content is there already."""

    def put_if(self, key: str, content: bytes, etag: str | None) -> None:
        """Write if the object still has `etag`, or still is not there for None. Raises `Changed` as `put_new` `Exists`."""

    def size(self, key: str) -> int | None:
        """Return the size in bytes, or None when there is no such object."""

    def put_file(self, key: str, path: Path, sha256: str) -> None:
        """Store a copy of the file. Raises `TrustError` if it is not `sha256`.

        One of its size that is there already may stay where reading it would cost a transfer. An interrupted transfer goes on.
        """

    def fetch_file(self, key: str, path: Path, sha256: str, size: int) -> None:
        """Write the object to `path`, going on with what an interrupted fetch left. Raises `Missing`, `TrustError`.

        `path` appears whole and with this SHA-256, or not at all.
        """

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Return all objects whose keys begin with `folder`, which ends with a slash, by key."""

    def delete(self, key: str) -> None:
        """Delete; nothing happens when there is no such object."""

    def sweep(self, older_than_s: float) -> int:
        """Remove what writes that were cut off that long ago left behind, and return how many there were."""

    def url(self, key: str, expires_s: int) -> str | None:
        """Return a URL that gives the object to whoever has it, for that long; None where there is no such thing."""


def key_of(*parts: str) -> str:
    """Join names to a key. Raises `UsageError` for a part that could lead elsewhere."""
    for part in parts:
        if not _PART.fullmatch(part):
            raise UsageError(
                f"{part!r:.80} is no name for a store", resolution="use letters, digits and . + ~ : _ - only"
            )
    return "/".join(parts)
