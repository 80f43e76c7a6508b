"""Downloads blobs: resumes from verified bytes, refuses what is truncated or altered, and names a file only when it is whole."""

import http.client
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, List, Optional

from . import durable, verity
from .chunks import NONE, ChunkLists, Chunks
from .errors import AgentError
from .imagelist import Blob
from .partial import Partial
from .web import FAULTS, STALL_S, Busy, Pace, ask

_READ = 256 * 1024
# Tries that bring nothing; one that brings this much does not count, however often the connection breaks.
_TRIES = 6
_PROGRESS = 64 * 1024
# A second wrong chunk in one answer says that it is another blob, not a fault of the way.
_WRONG_CHUNKS = 2
# No other try will do better.
_FINAL = ("redirect-refused", "disk-write-failed")


@dataclass
class Fetched:
    """What was downloaded, and how often something had to be asked for again."""

    bytes_fetched: int = 0
    retries: int = 0
    blobs_fetched: List[str] = field(default_factory=list)


class Fetcher:
    """Gets blobs of one source into one folder, which becomes the system partition."""

    def __init__(  # noqa: PLR0913 - the last two are for tests
        self,
        source: str,
        system: Path,
        *,
        chunks: ChunkLists = NONE,
        progress: Optional[Callable[[Blob, int], None]] = None,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = _TRIES,
        stall_s: float = STALL_S,
    ) -> None:
        self._source = source
        self._system = system
        self._chunks = chunks
        self._progress = progress or (lambda _blob, _done: None)
        self._sleep = sleep
        self._tries = tries
        self._stall_s = stall_s
        self.fetched = Fetched()

    def missing(self, blobs: Iterable[Blob]) -> List[Blob]:
        """Return those that are not there or not intact, each once."""
        unique = {blob.sha256: blob for blob in blobs}
        return [blob for blob in unique.values() if not verity.is_intact(self._system / blob.path, blob)]

    def fetch_all(self, blobs: Iterable[Blob]) -> None:
        """Make every blob be there, whole and, where the filesystem can, under verity. Raises `AgentError`."""
        unique = {blob.sha256: blob for blob in blobs}
        missing = {blob.sha256 for blob in self.missing(unique.values())}
        for blob in unique.values():
            if blob.sha256 in missing:
                self._fetch(blob)
            else:
                self._progress(blob, blob.size_bytes)
            verity.protect(self._system / blob.path, blob)

    def probe(self, blobs: Iterable[Blob]) -> None:
        """Ask the source for the size of each blob, before anything is destroyed. Raises `AgentError`."""
        for blob in blobs:
            with ask(
                f"{self._source}/blobs/{blob.sha256}", headers={"Range": "bytes=0-0"}, timeout_s=self._stall_s
            ) as answer:
                _require_size(blob, answer)

    def _fetch(self, blob: Blob) -> None:
        final = self._system / blob.path
        final.parent.mkdir(parents=True, exist_ok=True)
        path = final.with_name(f".{blob.sha256}.part")
        chunks = self._chunks.of(blob)
        for failed in range(1, self._tries + 1):
            self._download(blob, path, chunks)
            try:
                _require_whole(blob, path, is_listed=bool(chunks.digests))
                break
            except AgentError:
                # With chunk lists, the fault is not one of the way: job and image list contradict each other.
                if chunks.digests or failed == self._tries:
                    raise
                self.fetched.retries += 1
        path.replace(final)
        durable.sync_folder(final.parent)
        self.fetched.blobs_fetched.append(blob.sha256)

    def _download(self, blob: Blob, path: Path, chunks: Chunks) -> None:
        """Fill `path`. Raises `AgentError` when tries in a row brought nothing."""
        failed = 0
        with Partial(path, blob, chunks) as partial:
            most = partial.done_bytes
            while not partial.is_complete:
                try:
                    self._stream(blob, partial)
                except AgentError as error:
                    failed = 0 if partial.done_bytes - most >= _PROGRESS else failed + 1
                    most = max(most, partial.done_bytes)
                    self.fetched.retries += 1
                    if failed >= self._tries or error.code in _FINAL:
                        raise
                    self._wait(error, failed)

    def _wait(self, error: AgentError, failed: int) -> None:
        if isinstance(error, Busy):
            self._sleep(error.retry_after_s)
        elif failed:
            self._sleep(min(2.0**failed, 30))

    def _stream(self, blob: Blob, partial: Partial) -> None:
        """Ask for the first run of bytes that are missing and take them. Raises `AgentError` unless all came and were right."""
        start, end = partial.wanted()
        headers = {} if (start, end) == (0, blob.size_bytes) else {"Range": f"bytes={start}-{end - 1}"}
        try:
            with ask(f"{self._source}/blobs/{blob.sha256}", headers=headers, timeout_s=self._stall_s) as answer:
                _require_size(blob, answer)
                if not answer.geturl().endswith(f"/blobs/{blob.sha256}"):
                    raise AgentError(
                        "source-failed",
                        f"{blob.role} {blob.sha256} is answered by {answer.geturl().rpartition('/')[2]}",
                        "let the source answer itself",
                    )
                if start and answer.status != http.client.PARTIAL_CONTENT:
                    # The whole blob comes; the next try begins with an empty file.
                    partial.clear()
                    raise AgentError(
                        "source-failed", "the source does not serve ranges", "serve the blobs with HTTP ranges"
                    )
                wrong = self._take(blob, partial, answer, end)
        except FAULTS as error:
            raise AgentError(
                "source-failed", f"{blob.role} {blob.sha256}: {error}", "check the store and the network"
            ) from error
        if wrong:
            raise AgentError(
                "blob-altered",
                f"{blob.role} {blob.sha256} arrived altered in {wrong} of {partial.chunks.count} chunks",
                "check the store and what lies between it and the host",
            )
        if partial.position < end:
            raise AgentError(
                "blob-truncated", f"{blob.role} {blob.sha256} ended after {partial.position} of {end} bytes"
            )

    def _take(self, blob: Blob, partial: Partial, answer: http.client.HTTPResponse, end: int) -> int:
        """Read up to `end`; return how many chunks were wrong. What follows a wrong chunk is taken all the same."""
        pace, wrong = Pace(window_s=self._stall_s), 0
        while partial.position < end and wrong < _WRONG_CHUNKS:
            data = answer.read1(min(_READ, end - partial.position))
            if not data:
                break
            pace.note(len(data))
            self.fetched.bytes_fetched += len(data)
            wrong += partial.add(data)
            self._progress(blob, partial.done_bytes)
        if wrong >= _WRONG_CHUNKS:
            partial.drop_begun()
        return wrong


def _require_whole(blob: Blob, path: Path, *, is_listed: bool) -> None:
    """Read the blob back from the disk. Raises `AgentError`, and keeps nothing, when it is not the one of the image list."""
    # The kernel reads every byte for the verity digest; after right chunks that is proof enough.
    if is_listed and verity.protect(path, blob):
        return
    found = verity.hash_file(path)
    if found != blob.sha256:
        # Which byte is wrong is not known, so none is kept.
        path.unlink()
        raise AgentError(
            "blob-altered",
            f"{blob.role} {blob.sha256} arrived as {found}",
            "check the store and what lies between it and the host",
        )


def _require_size(blob: Blob, answer: http.client.HTTPResponse) -> None:
    whole = answer.headers.get("Content-Range") or answer.headers.get("Content-Length") or "unknown"
    total = whole.rpartition("/")[2]
    if total != str(blob.size_bytes):
        raise AgentError(
            "blob-size", f"{blob.role} {blob.sha256} has {total} bytes at the source, not {blob.size_bytes}"
        )
