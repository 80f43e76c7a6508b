"""The chunk lists that a job carries (flash/agent/chunks.py): made once per blob, kept by its digest."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flash.agent.chunks import SIZE_BYTES
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import Store

ChunkLists = Callable[[Image], dict[str, Any]]


def list_chunks(path: Path, size_bytes: int = SIZE_BYTES) -> bytes:
    """Return the SHA-256 sums of the chunks of a file, 32 bytes each, one behind the other."""
    with path.open("rb") as source:
        return b"".join(hashlib.sha256(chunk).digest() for chunk in iter(lambda: source.read(size_bytes), b""))


def chunk_lists(settings: Settings, store: Store) -> ChunkLists:
    """Return what gives the field `image.chunks` of a job; agents that do not know it pass over it.

    The lists need no trust: a blob counts by its digest in the image list, whatever its chunks are.
    """
    folder = settings.cache_dir / "chunks"

    def of(image: Image) -> dict[str, Any]:
        return {
            "size_bytes": SIZE_BYTES,
            "sha256": {blob: base64.b64encode(_read(blob)).decode() for blob in image.blobs()},
        }

    def _read(blob: str) -> bytes:
        kept = folder / blob
        if not kept.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            fresh = kept.with_suffix(".new")
            fresh.write_bytes(list_chunks(store.open_blob(blob)))
            fresh.replace(kept)
        return kept.read_bytes()

    return of
