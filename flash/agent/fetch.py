"""Downloads blobs: resumes from verified bytes, refuses what is truncated or altered, and names a file only when it is whole."""

import http.client
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, List, Optional, Set

from . import durable, verity
from .chunks import NONE, ChunkLists
from .errors import AgentError
from .imagelist import Blob
from .partial import Partial, flush
from .pump import Pump
from .report import Tell
from .web import FAULTS, STALL_S, Busy, Pace, ask

_READ = 256 * 1024
# Tries that bring nothing; one that brings this much does not count, however often the connection breaks.
_TRIES = 6
_PROGRESS = 64 * 1024
# How often what arrived wrong is fetched again: a source that gives other bytes each time is given up.
_MENDS = 3
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
        progress: Optional[Tell] = None,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = _TRIES,
        stall_s: float = STALL_S,
    ) -> None:
        self._source = source
        self._system = system
        self._chunks = chunks
        self._progress: Tell = progress or _tell_nobody
        self._sleep = sleep
        self._tries = tries
        self._stall_s = stall_s
        self._proven: Set[str] = set()
        self.fetched = Fetched()

    def missing(self, blobs: Iterable[Blob]) -> List[Blob]:
        """Return those that are not there or not intact, each once. Every byte is read, but only once in the life of this object."""
        unique = {blob.sha256: blob for blob in blobs}
        return [blob for blob in unique.values() if not self._is_intact(blob)]

    def _is_intact(self, blob: Blob) -> bool:
        path = self._system / blob.path
        if blob.sha256 in self._proven:
            return path.exists() and path.stat().st_size == blob.size_bytes
        is_intact = verity.is_intact(path, blob)
        if is_intact:
            self._proven.add(blob.sha256)
        return is_intact

    def fetch_all(self, blobs: Iterable[Blob]) -> None:
        """Make every blob be there, whole and, where the filesystem can, under verity. Raises `AgentError`."""
        unique = {blob.sha256: blob for blob in blobs}
        missing = {blob.sha256 for blob in self.missing(unique.values())}
        # While one blob is flushed and read back, the next one travels. The smallest come last, so that the last check is short.
        with ThreadPoolExecutor(1) as checker:
            checks = []
            for blob in sorted(unique.values(), key=lambda one: -one.size_bytes):
                if blob.sha256 in missing:
                    self._download(blob)
                    checks.append((blob, checker.submit(self._settle, blob)))
                else:
                    self._progress(blob, blob.size_bytes, was_there=True)
                    verity.protect(self._system / blob.path, blob)
            for blob, check in checks:
                self._await_check(blob, check)

    def probe(self, blobs: Iterable[Blob]) -> None:
        """Ask the source for the size of each blob, before anything is destroyed. Raises `AgentError`."""
        for blob in blobs:
            with ask(
                f"{self._source}/blobs/{blob.sha256}", headers={"Range": "bytes=0-0"}, timeout_s=self._stall_s
            ) as answer:
                _require_size(blob, answer)

    def _await_check(self, blob: Blob, check: "Future[None]") -> None:
        """Wait until a blob is found right; what is wrong of it is fetched again. Raises `AgentError`."""
        try:
            check.result()
        except AgentError as error:
            if error.code != "blob-altered":
                raise
        else:
            return
        for attempt in range(1, _MENDS + 1):
            self.fetched.retries += 1
            self._download(blob)
            try:
                self._settle(blob)
            except AgentError as error:
                if error.code == "blob-altered" and attempt < _MENDS:
                    continue
                self._partial_path(blob).unlink(missing_ok=True)
                raise
            return

    def _settle(self, blob: Blob) -> None:
        """Flush a blob and read it back, put it under verity, and give it its name. Raises `AgentError`."""
        path, final = self._partial_path(blob), self._system / blob.path
        flush(path, blob)
        _require_whole(blob, path)
        verity.protect(path, blob)
        path.replace(final)
        durable.sync_folder(final.parent)
        self._proven.add(blob.sha256)
        self.fetched.blobs_fetched.append(blob.sha256)

    def _partial_path(self, blob: Blob) -> Path:
        return (self._system / blob.path).with_name(f".{blob.sha256}.part")

    def _download(self, blob: Blob) -> None:
        """Fill the blob's partial file. Raises `AgentError` when tries in a row brought nothing."""
        path, chunks = self._partial_path(blob), self._chunks.of(blob)
        path.parent.mkdir(parents=True, exist_ok=True)
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
        """Ask for the first run of bytes that are missing and take them. Raises `AgentError` unless all came."""
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
                self._take(blob, partial, answer, end)
        except FAULTS as error:
            raise AgentError(
                "source-failed", f"{blob.role} {blob.sha256}: {error}", "check the store and the network"
            ) from error
        if partial.position < end:
            raise AgentError(
                "blob-truncated", f"{blob.role} {blob.sha256} ended after {partial.position} of {end} bytes"
            )

    def _take(self, blob: Blob, partial: Partial, answer: http.client.HTTPResponse, end: int) -> None:
        """Read up to `end`, or to the answer's end."""
        pace, left = Pace(window_s=self._stall_s), end - partial.position
        with Pump(partial) as pump:
            while left and not pump.has_failed:
                data = answer.read1(min(_READ, left))
                if not data:
                    break
                pace.note(len(data))
                self.fetched.bytes_fetched += len(data)
                left -= len(data)
                pump.put(data)
                self._progress(blob, partial.done_bytes)
        self._progress(blob, partial.done_bytes)


def _tell_nobody(blob: Blob, done_bytes: int, *, was_there: bool = False) -> None:
    del blob, done_bytes, was_there


def _require_whole(blob: Blob, path: Path) -> None:
    """Read the blob back from the disk. Raises `AgentError` when it is not the one of the image list."""
    found = verity.hash_file(path)
    if found != blob.sha256:
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
