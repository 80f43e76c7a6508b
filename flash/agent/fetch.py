"""Downloads blobs: resumes from verified bytes, refuses what is truncated or altered, and names a file only when it is whole."""

import hashlib
import http.client
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, List, Optional

from . import durable, verity
from .errors import AgentError
from .imagelist import Blob
from .web import FAULTS, ask

_CHUNK = 1024 * 1024
_TRIES = 6


@dataclass
class Fetched:
    """What was downloaded."""

    bytes_fetched: int = 0
    blobs_fetched: List[str] = field(default_factory=list)


class Fetcher:
    """Gets blobs of one source into one folder, which becomes the system partition."""

    def __init__(
        self,
        source: str,
        system: Path,
        *,
        progress: Optional[Callable[[Blob, int], None]] = None,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = _TRIES,
    ) -> None:
        self._source = source
        self._system = system
        self._progress = progress or (lambda _blob, _done: None)
        self._sleep = sleep
        self._tries = tries
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
            with ask(f"{self._source}/blobs/{blob.sha256}", headers={"Range": "bytes=0-0"}) as answer:
                whole = answer.headers.get("Content-Range") or answer.headers.get("Content-Length") or "unknown"
            total = whole.rpartition("/")[2]
            if total != str(blob.size_bytes):
                raise AgentError(
                    "blob-size", f"{blob.role} {blob.sha256} has {total} bytes at the source, not {blob.size_bytes}"
                )

    def _fetch(self, blob: Blob) -> None:
        final = self._system / blob.path
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{blob.sha256}.part")
        error: Optional[AgentError] = None
        for attempt in range(self._tries):
            if attempt:
                self._sleep(min(2**attempt, 30))
            try:
                self._continue(blob, partial)
            except AgentError as problem:
                error = problem
                continue
            partial.replace(final)
            durable.sync_folder(final.parent)
            self.fetched.blobs_fetched.append(blob.sha256)
            return
        if error is not None:
            raise error

    def _continue(self, blob: Blob, partial: Path) -> None:
        """Download what is missing of `partial`. The bytes that are there are hashed first: only their sum decides in the end."""
        total = hashlib.sha256()
        with partial.open("a+b") as file:
            file.seek(0)
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                total.update(chunk)
            done = file.tell()
            if done < blob.size_bytes:
                done = self._download(blob, file, total, done)
            file.flush()
            os.fsync(file.fileno())
        if done < blob.size_bytes:
            raise AgentError(
                "blob-truncated", f"{blob.role} {blob.sha256} ended after {done} of {blob.size_bytes} bytes"
            )
        if done > blob.size_bytes or total.hexdigest() != blob.sha256:
            # Which byte is wrong is not known, so none is kept.
            partial.unlink()
            raise AgentError(
                "blob-altered",
                f"{blob.role} {blob.sha256} arrived as {total.hexdigest()} with {done} bytes",
                "check the store and what lies between it and the host",
            )

    def _download(self, blob: Blob, file: BinaryIO, total: "hashlib._Hash", done: int) -> int:
        headers = {"Range": f"bytes={done}-"} if done else {}
        try:
            with ask(f"{self._source}/blobs/{blob.sha256}", headers=headers) as answer:
                if done and answer.status != http.client.PARTIAL_CONTENT:
                    # The whole blob comes; the next try begins with an empty file.
                    file.truncate(0)
                    raise AgentError(
                        "source-failed", "the source does not serve ranges", "serve the blobs with HTTP ranges"
                    )
                while done <= blob.size_bytes:
                    chunk = answer.read(_CHUNK)
                    if not chunk:
                        break
                    file.write(chunk)
                    total.update(chunk)
                    done += len(chunk)
                    self.fetched.bytes_fetched += len(chunk)
                    self._progress(blob, done)
        except FAULTS as error:
            raise AgentError(
                "source-failed", f"{blob.role} {blob.sha256}: {error}", "check the store and the network"
            ) from error
        return done
