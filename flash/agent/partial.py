"""A blob on its way: a file without its name yet, filled by runs of chunks.

What comes is not checked as it comes: the whole is, when it is read back from the disk, and only where that is wrong, and at the
start of the next run, chunk by chunk, so that what is right is kept. Each byte is so hashed once.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import List, Optional, Tuple, Type

from . import durable
from .chunks import Chunks
from .errors import AgentError
from .imagelist import Blob

_READ = 1024 * 1024
# The disk begins to write while more comes, so that the flush in the end finds little.
_FLUSH = 8 * 1024 * 1024


class Partial:
    """The file `path`; a context manager, that flushes in its end what is not complete: a complete one is `flush`ed by who checks it.

    What is there in the beginning is checked, chunk by chunk. Without digests it counts as it is, as long as it is not whole: then only the
    sum of the whole blob decides.
    """

    def __init__(self, path: Path, blob: Blob, chunks: Chunks) -> None:
        self._path = path
        self._blob = blob
        self.chunks = chunks
        self._left: List[int] = list(range(chunks.number))
        self._done = 0
        self._device = -1
        self._flushed = 0
        self._begin(0)

    def __enter__(self) -> "Partial":  # noqa: PYI034 - Python 3.9 has no Self
        self._device = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._load()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            if not self.is_complete:
                os.fsync(self._device)
        except OSError as problem:
            raise write_failed(self._blob, problem) from problem
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
            if self._number < self.chunks.number
            else self.chunks.blob_bytes
        )

    @property
    def done_bytes(self) -> int:
        """Return how much is there: right chunks, and what has come of the one under way."""
        return self._done + self._have

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

    def add(self, data: bytes) -> None:
        """Take bytes that follow the last ones. Raises `AgentError`."""
        rest = memoryview(data)
        self._write(rest, self.position)
        while rest:
            _, size = self.chunks.span(self._number)
            took = min(len(rest), size - self._have)
            rest = rest[took:]
            self._have += took
            if self._have == size:
                self._finish(self._number)
                self._begin(self._number + 1)

    def clear(self) -> None:
        """Forget everything."""
        os.ftruncate(self._device, 0)
        self._left, self._done = list(range(self.chunks.number)), 0
        self._begin(0)

    def _finish(self, number: int) -> None:
        self._left.remove(number)
        self._done += self.chunks.span(number)[1]

    def _begin(self, number: int) -> None:
        self._number = number
        self._have = 0

    def _load(self) -> None:
        """Take the chunks that are there and right, and the begin of the one at the end of the file."""
        there = min(os.fstat(self._device).st_size, self.chunks.blob_bytes)
        if not self.chunks.digests and there == self.chunks.blob_bytes:
            there = 0
        os.ftruncate(self._device, there)
        for number in range(self.chunks.number):
            start, size = self.chunks.span(number)
            if start + size > there:
                self._number, self._have = number, max(there - start, 0)
                return
            if self._is_right(number):
                self._finish(number)
        self._begin(self.chunks.number)

    def _is_right(self, number: int) -> bool:
        if not self.chunks.digests:
            return True
        start, size = self.chunks.span(number)
        try:
            return hashlib.sha256(os.pread(self._device, size, start)).digest() == self.chunks.digests[number]
        except OSError:
            # It is fetched again, to another place of the disk.
            return False

    def _write(self, data: memoryview, offset: int) -> None:
        try:
            while data:
                written = os.pwrite(self._device, data, offset)
                data, offset = data[written:], offset + written
            if offset // _FLUSH > self._flushed:
                self._flushed = offset // _FLUSH
                durable.begin_flush(self._device)
        except OSError as error:
            raise write_failed(self._blob, error) from error


def flush(path: Path, blob: Blob) -> None:
    """Flush a complete blob: what is checked next must come from the disk. Raises `AgentError`."""
    try:
        durable.flush_file(path, forgets=True)
    except OSError as error:
        raise write_failed(blob, error) from error


def write_failed(blob: Blob, error: OSError) -> AgentError:
    """Return the error of a disk that does not take a blob."""
    return AgentError(
        "disk-write-failed",
        f"{blob.role} {blob.sha256} cannot be written: {error.strerror}",
        "look at the disk's health, and at the space on it",
    )
