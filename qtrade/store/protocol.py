"""What bake and flash ask of a store."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qtrade.manifest import Image


@dataclass(frozen=True)
class BlobRecord:
    """What a key led to: a layer, kernel or initrd, or a check that passed (then without a blob: digest is empty).

    `verity` is the fs-verity digest of a layer. `paths` are a layer's own paths: `d <mode> <path>` for folders, `f <path>`
    for the rest. `facts` are small things that later steps need, such as the kernel's release.
    """

    key: str
    name: str
    digest: str = ""
    size: int = 0
    verity: str = ""
    paths: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedImage:
    """A version as it stands in the store. Nothing of it is checked yet: `flash` and `images verify` do that."""

    image_text: str
    list_text: str
    list_sig: bytes
    envelope: dict[str, Any]


class Store(Protocol):
    """Content-addressed blobs, records by key, write-once versions."""

    def has_blob(self, digest: str) -> bool:
        """Return whether the blob is there (not whether its bytes are right)."""

    def add_blob(self, path: Path, digest: str) -> None:
        """Take the file at `path`, whose SHA-256 is `digest`. The file may be moved."""

    def open_blob(self, digest: str) -> Path:
        """Return a local file with the blob's bytes. Raises `NotFound`."""

    def find_record(self, key: str) -> BlobRecord | None:
        """Return what the key led to, if its blob is still there."""

    def add_record(self, record: BlobRecord) -> None:
        """Remember what a key led to."""

    def publish(self, image: Image, published: PublishedImage) -> None:
        """Write a version once. Raises `ConflictError` when the version exists with another id."""

    def read(self, recipe: str, version: str) -> PublishedImage:
        """Return a version. Raises `NotFound`, or `TrustError` when it is damaged."""

    def versions(self, recipe: str) -> tuple[str, ...]:
        """Return the versions of a recipe, oldest name first."""
