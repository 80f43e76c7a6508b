"""The chunk lists of a job: a digest for every few MiB of a blob, so that a byte that arrives wrong costs one chunk and not the blob.

They only say what to fetch again. Whether a blob is right is decided by its own digest in the signed image list.
"""

import base64
import binascii
from typing import Any, Mapping, NamedTuple, Tuple

from .errors import AgentError
from .imagelist import Blob, is_digest

# Of blobs without a list, and of the lists that the controller makes.
SIZE_BYTES = 4 * 1024 * 1024
_MOST = 64 * 1024 * 1024
_DIGEST_BYTES = 32


class Chunks(NamedTuple):
    """How one blob is cut: all chunks have `size_bytes`, the last one what is left. No digests means that none are known."""

    blob_bytes: int
    size_bytes: int = SIZE_BYTES
    digests: Tuple[bytes, ...] = ()

    @property
    def number(self) -> int:
        """Return how many chunks there are."""
        return -(-self.blob_bytes // self.size_bytes)

    def span(self, number: int) -> Tuple[int, int]:
        """Return where a chunk begins and how long it is, in bytes."""
        start = number * self.size_bytes
        return start, min(self.size_bytes, self.blob_bytes - start)


class ChunkLists(NamedTuple):
    """The chunk lists of a job by the blobs' digests, each the SHA-256 sums one behind the other."""

    size_bytes: int
    sums: Mapping[str, bytes]

    def of(self, blob: Blob) -> Chunks:
        """Return how `blob` is cut; without digests when there is no list of that length."""
        sums = self.sums.get(blob.sha256, b"")
        cut = Chunks(blob.size_bytes, self.size_bytes)
        if len(sums) != cut.number * _DIGEST_BYTES:
            return Chunks(blob.size_bytes)
        digests = tuple(sums[at : at + _DIGEST_BYTES] for at in range(0, len(sums), _DIGEST_BYTES))
        return Chunks(blob.size_bytes, self.size_bytes, digests)


NONE = ChunkLists(SIZE_BYTES, {})


def parse_chunks(value: Any) -> ChunkLists:
    """Parse `image.chunks` of a job: `{"size_bytes": n, "sha256": {blob: base64}}`. Raises `AgentError`."""
    if value is None:
        return NONE
    size, lists = (value.get("size_bytes"), value.get("sha256")) if isinstance(value, dict) else (None, None)
    if not isinstance(size, int) or isinstance(size, bool) or not 4096 <= size <= _MOST or not isinstance(lists, dict):
        raise AgentError(
            "job-invalid", f"image.chunks needs size_bytes from 4096 to {_MOST}, and sha256", "update the controller"
        )
    try:
        sums = {str(blob): base64.b64decode(text, validate=True) for blob, text in lists.items()}
    except (binascii.Error, TypeError, ValueError):
        raise AgentError("job-invalid", "image.chunks.sha256 holds something that is not base64") from None
    if not all(is_digest(blob) for blob in sums):
        raise AgentError("job-invalid", "image.chunks.sha256 holds a name that is no digest")
    return ChunkLists(size, sums)
