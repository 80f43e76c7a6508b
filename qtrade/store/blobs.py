"""Blobs as local files: the stored ones themselves, or a scratch folder in front of a remote store."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from qtrade.errors import NotFound, TrustError
from qtrade.store.local import LocalObjects, digest_of
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


class DamagedBlob(TrustError):
    """A stored blob whose bytes are not what its name says; `size_bytes` is that of the file."""

    def __init__(self, digest: str, *, found: str, size_bytes: int, path: Path) -> None:
        super().__init__(
            f"blob {digest} is damaged in the store",
            details=f"{path}\nhas sha256 {found}, {size_bytes} bytes; it is moved to a name that begins with .damaged",
            resolution="run the bake of that version again: it makes what is damaged once more (--from-scratch: everything)",
        )
        self.size_bytes = size_bytes


class Blobs(Protocol):
    """Blobs by SHA-256, as files."""

    def has(self, digest: str) -> bool:
        """Return whether the blob is there, or on its way."""

    def add(self, path: Path, digest: str) -> None:
        """Take the file."""

    def open(self, digest: str, *, afresh: bool = False) -> Path:
        """Return a local file that was compared with its digest: once per process, or now with `afresh`.

        Raises `NotFound`, `TrustError`.
        """

    def locate(self, digest: str) -> Path:
        """Return where `open` has the file, for whoever calls that too before anything comes of its bytes.

        Raises `NotFound`, `TrustError`.
        """

    def recall(self, digest: str) -> bool:
        """Return whether a blob that the store lacks is at hand after all; it is on its way then."""

    def flush(self) -> None:
        """Wait until everything that was added is stored. Raises the error of what could not be."""


class LocalBlobs:
    """Files of the store itself: no copies. A damaged one is moved aside, so that the next bake makes it again."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self._compared = _Compared()
        self._damaged: dict[str, DamagedBlob] = {}

    def has(self, digest: str) -> bool:
        """Return whether the file is there."""
        return self._objects.size(blob_key(digest)) is not None

    def add(self, path: Path, digest: str) -> None:
        """Move the file to its place."""
        self._objects.take_file(blob_key(digest), path)
        self._compared.add(digest)

    def open(self, digest: str, *, afresh: bool = False) -> Path:
        """Return the stored file. Raises `NotFound`, `DamagedBlob`."""
        path = self._objects.root / blob_key(digest)
        try:
            found = self._compared.find_other(path, digest, afresh=afresh)
            size_bytes = path.stat().st_size
        except FileNotFoundError as error:  # perhaps since another thread moved it aside
            raise self._damaged.get(digest) or missing_blob(digest) from error
        if not found:
            return path
        # Known before it is gone, so that no thread takes a damaged blob for one that never was.
        self._damaged[digest] = DamagedBlob(digest, found=found, size_bytes=size_bytes, path=path)
        self._set_aside(digest)
        raise self._damaged[digest]

    def locate(self, digest: str) -> Path:
        """Return the stored file."""
        if not self.has(digest):
            raise self._damaged.get(digest) or missing_blob(digest)
        return self._objects.root / blob_key(digest)

    def recall(self, digest: str) -> bool:
        """Return False: there is nothing but the store."""
        del digest
        return False

    def flush(self) -> None:
        """Do nothing: what was added is stored."""

    def _set_aside(self, digest: str) -> None:
        """Move the damaged file away, so that the blob counts as missing; in a store that may only be read it stays."""
        with suppress(OSError):
            self._objects.set_aside(blob_key(digest))


class RemoteBlobs:
    """A scratch folder: what is added lies there and is uploaded in the background, several blobs side by side.

    An upload that dies with its process is taken up by the next one that needs the blob (`recall`). A file is compared with
    its digest before this process uses it first; a damaged one is fetched again.
    """

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects, self._folder = objects, folder
        self._uploads = _Uploads(lambda digest: objects.put_file(blob_key(digest), self._path(digest), digest))
        self._compared = _Compared()

    def has(self, digest: str) -> bool:
        """Ask the store, unless the blob is on its way."""
        return self._uploads.is_under_way(digest) or self._objects.size(blob_key(digest)) is not None

    def add(self, path: Path, digest: str) -> None:
        """Move the file to the scratch folder and begin to upload it."""
        target = self._path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        LocalObjects(target.parent).take_file(target.name, path)
        self._compared.add(digest)
        self._uploads.begin(digest)

    def open(self, digest: str, *, afresh: bool = False) -> Path:
        """Return the scratch file, fetched first if it is missing or damaged. Raises `NotFound`, `TrustError`."""
        path = self._path(digest)
        if not path.is_file() or self._compared.find_other(path, digest, afresh=afresh):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(path, digest)
            self._compared.add(digest)
        return path

    def locate(self, digest: str) -> Path:
        """Return the scratch file, fetched first if it is missing."""
        return path if (path := self._path(digest)).is_file() else self.open(digest)

    def recall(self, digest: str) -> bool:
        """Upload what an earlier process left in the scratch folder; a damaged file is as good as none."""
        path = self._path(digest)
        if not path.is_file() or self._compared.find_other(path, digest):
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


class _Compared:
    """Which files this process has compared with their digests. Each is read once, however many threads ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}
        self._intact: set[str] = set()

    def add(self, digest: str) -> None:
        """Remember a file that somebody else has just compared."""
        self._intact.add(digest)

    def find_other(self, path: Path, digest: str, *, afresh: bool = False) -> str:
        """Return the digest that the file has instead, or nothing."""
        with self._lock:
            reading = self._reading.setdefault(digest, threading.Lock())
        with reading:
            if digest in self._intact and not afresh:
                return ""
            found = digest_of(path)
            if found != digest:
                return found
            self._intact.add(digest)
            return ""


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
