"""A blob on its way: a file without its name yet, filled chunk by chunk; only chunks that are right count as there."""

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import List, Optional, Tuple, Type

from .chunks import Chunks
from .errors import AgentError
from .imagelist import Blob

_READ = 1024 * 1024


class Partial:
    """The file `path`; a context manager, that flushes it in the end. What an earlier run left there is checked first.

    Without digests, chunks count as they come, and in their order: then only the sum of the whole blob decides.
    """

    def __init__(self, path: Path, blob: Blob, chunks: Chunks) -> None:
        self._path = path
        self._blob = blob
        self.chunks = chunks
        self._left: List[int] = list(range(chunks.count))
        self._device = -1
        self._begin(0)

    def __enter__(self) -> "Partial":  # noqa: PYI034 - Python 3.9 has no Self
        self._device = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._load()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            os.fsync(self._device)
            # What is checked next must come from the disk, not from the page cache.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._device, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as problem:
            raise self._failed(problem) from problem
        finally:
            os.close(self._device)

    @property
    def is_complete(self) -> bool:
        """Say whether every chunk is there."""
        return not self._left

    @property
    def position(self) -> int:
        """Return where the next byte goes."""
        return (
            self.chunks.span(self._number)[0] + self._have
            if self._number < self.chunks.count
            else self.chunks.blob_bytes
        )

    @property
    def done_bytes(self) -> int:
        """Return how much is there: right chunks, and what has come of the one under way."""
        return self.chunks.blob_bytes - sum(self.chunks.span(number)[1] for number in self._left) + self._have

    def wanted(self) -> Tuple[int, int]:
        """Return the run of bytes to ask for next, first and behind the last: the chunk under way goes on."""
        if self._number not in self._left or not self._have:
            self._begin(self._left[0])
        last = self._number
        missing = set(self._left)
        while last + 1 in missing:
            last += 1
        start, size = self.chunks.span(last)
        return self.position, start + size

    def add(self, data: bytes) -> int:
        """Take bytes that follow the last ones; return how many chunks they completed that are wrong. Raises `AgentError`."""
        wrong = 0
        rest = memoryview(data)
        while rest:
            start, size = self.chunks.span(self._number)
            piece, rest = rest[: size - self._have], rest[size - self._have :]
            self._write(piece, start + self._have)
            self._total.update(piece)
            self._have += len(piece)
            if self._have == size:
                wrong += not self._close_chunk()
        return wrong

    def drop_begun(self) -> None:
        """Forget the chunk under way, whose first bytes are of no good source."""
        self._begin(self._number)

    def clear(self) -> None:
        """Forget everything."""
        os.ftruncate(self._device, 0)
        self._left = list(range(self.chunks.count))
        self._begin(0)

    def _begin(self, number: int) -> None:
        self._number = number
        self._have = 0
        self._total = hashlib.sha256()

    def _close_chunk(self) -> bool:
        digests = self.chunks.digests
        is_right = not digests or self._total.digest() == digests[self._number]
        if is_right:
            self._left.remove(self._number)
        self._begin(self._number + 1)
        return is_right

    def _load(self) -> None:
        """Take what an earlier run left, up to the end of the file."""
        there = min(os.fstat(self._device).st_size, self.chunks.blob_bytes)
        os.ftruncate(self._device, there)
        while self.position < there:
            start, size = self.chunks.span(self._number)
            end = min(start + size, there)
            try:
                piece = os.pread(self._device, min(_READ, end - self.position), self.position)
            except OSError:
                # It is fetched again, to another place of the disk.
                self.clear()
                return
            self._total.update(piece)
            self._have += len(piece)
            if self._have == size:
                self._close_chunk()

    def _write(self, data: memoryview, offset: int) -> None:
        try:
            while data:
                written = os.pwrite(self._device, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> AgentError:
        return AgentError(
            "disk-write-failed",
            f"{self._blob.role} {self._blob.sha256} cannot be written: {error.strerror}",
            "look at the disk's health, and at the space on it",
        )
