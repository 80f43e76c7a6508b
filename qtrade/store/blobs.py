"""Blobs as local files: the stored ones themselves, or a scratch folder in front of a remote store."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from qtrade.errors import NotFound
from qtrade.store.local import LocalObjects
from qtrade.store.objects import Missing, Objects, key_of

_SIDE_BY_SIDE = 4


def blob_key(digest: str) -> str:
    """Return the key of a blob. Raises `UsageError`."""
    return key_of("blobs", digest)


def missing_blob(digest: str) -> NotFound:
    """Return the error for a blob that is not there."""
    return NotFound(
        f"the store has no blob {digest}", details=f"looked for {blob_key(digest)}", resolution="bake the version again"
    )


class Blobs(Protocol):
    """Blobs by SHA-256, as files."""

    def has(self, digest: str) -> bool:
        """Return whether the blob is there, or on its way."""

    def add(self, path: Path, digest: str) -> None:
        """Take the file."""

    def open(self, digest: str) -> Path:
        """Return a local file. Raises `NotFound`."""

    def recall(self, digest: str) -> bool:
        """Return whether a blob that the store lacks is at hand after all; it is on its way then."""

    def flush(self) -> None:
        """Wait until everything that was added is stored. Raises the error of what could not be."""


class LocalBlobs:
    """Files of the store itself: no copies."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects

    def has(self, digest: str) -> bool:
        """Return whether the file is there."""
        return self._objects.size(blob_key(digest)) is not None

    def add(self, path: Path, digest: str) -> None:
        """Move the file to its place."""
        self._objects.take_file(blob_key(digest), path)

    def open(self, digest: str) -> Path:
        """Return the stored file. Raises `NotFound`."""
        path = self._objects.root / blob_key(digest)
        if not path.is_file():
            raise NotFound(
                f"the store has no blob {digest}", details=f"looked for {path}", resolution="bake the version again"
            )
        return path

    def recall(self, digest: str) -> bool:
        """Return False: there is nothing but the store."""
        del digest
        return False

    def flush(self) -> None:
        """Do nothing: what was added is stored."""


class RemoteBlobs:
    """A scratch folder: what is added lies there and is uploaded in the background, several blobs side by side.

    An upload that dies with its process is taken up by the next one that needs the blob (`recall`). A file is compared with
    its digest before this process uses it first; a damaged one is fetched again.
    """

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects, self._folder = objects, folder
        self._uploads = _Uploads(lambda digest: objects.put_file(blob_key(digest), self._path(digest), digest))
        self._intact: set[str] = set()

    def has(self, digest: str) -> bool:
        """Ask the store, unless the blob is on its way."""
        return self._uploads.is_under_way(digest) or self._objects.size(blob_key(digest)) is not None

    def add(self, path: Path, digest: str) -> None:
        """Move the file to the scratch folder and begin to upload it."""
        target = self._path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        LocalObjects(target.parent).take_file(target.name, path)
        self._uploads.begin(digest)

    def open(self, digest: str) -> Path:
        """Return the scratch file, fetched first if it is missing or damaged. Raises `NotFound`, `TrustError`."""
        path = self._path(digest)
        if digest in self._intact and path.is_file():
            return path
        if not path.is_file() or not _is_intact(path, digest):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(path, digest)
        self._intact.add(digest)
        return path

    def recall(self, digest: str) -> bool:
        """Upload what an earlier process left in the scratch folder; a damaged file is as good as none."""
        path = self._path(digest)
        if not path.is_file() or not _is_intact(path, digest):
            return False
        self._uploads.begin(digest)
        return True

    def flush(self) -> None:
        """Wait for the uploads. Raises the first error."""
        self._uploads.wait()

    def _fetch(self, path: Path, digest: str) -> None:
        size = self._objects.size(blob_key(digest))
        if size is None:
            raise missing_blob(digest)
        try:
            self._objects.fetch_file(blob_key(digest), path, digest, size)
        except Missing as error:
            raise missing_blob(digest) from error
        path.chmod(0o444)

    def _path(self, digest: str) -> Path:
        return self._folder / blob_key(digest)


class _Uploads:
    """Uploads in threads that die with the process: an interrupted command ends at once, and the next one goes on."""

    def __init__(self, upload: Callable[[str], None]) -> None:
        self._upload = upload
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[str, Future[None]]] = SimpleQueue()
        self._all: dict[str, Future[None]] = {}
        self._threads = 0

    def begin(self, digest: str) -> None:
        with self._lock:
            if digest in self._all and not _has_failed(self._all[digest]):
                return
            self._all[digest] = Future()
            self._queue.put((digest, self._all[digest]))
            if self._threads < _SIDE_BY_SIDE:
                self._threads += 1
                threading.Thread(target=self._work, name=f"upload-{self._threads}", daemon=True).start()

    def is_under_way(self, digest: str) -> bool:
        with self._lock:
            return digest in self._all and not _has_failed(self._all[digest])

    def wait(self) -> None:
        with self._lock:
            futures = list(self._all.values())
        for future in futures:
            future.result()

    def _work(self) -> None:
        while True:
            digest, future = self._queue.get()
            try:
                self._upload(digest)
            except BaseException as error:  # noqa: BLE001 - `wait` raises it where somebody can act on it
                future.set_exception(error)
            else:
                future.set_result(None)


def find_sizes(objects: Objects, digests: tuple[str, ...]) -> dict[str, int | None]:
    """Return the size of each blob as the store has it, several asked side by side."""
    if isinstance(objects, LocalObjects):
        return {digest: objects.size(blob_key(digest)) for digest in digests}
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return dict(zip(digests, pool.map(lambda digest: objects.size(blob_key(digest)), digests), strict=True))


def _has_failed(future: Future[None]) -> bool:
    return future.done() and future.exception() is not None


def _is_intact(path: Path, digest: str) -> bool:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == digest
