"""Objects in a folder. Every file appears whole, by rename or link, after its bytes are on the disk."""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtrade.errors import TrustError
from qtrade.store.objects import Changed, Entry, Exists, Missing

_NEW = ".new-"
_ASIDE = ".damaged-"


class LocalObjects:
    """`Objects` below one folder: a key is a path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> tuple[bytes, str]:
        """Read; the etag is the SHA-256 of the content."""
        try:
            content = (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Missing(key) from error
        return content, hashlib.sha256(content).hexdigest()

    def put(self, key: str, content: bytes) -> None:
        """Write by rename."""
        fresh = self._write(key, content)
        fresh.rename(self.root / key)
        _sync(fresh.parent)

    def put_new(self, key: str, content: bytes) -> None:
        """Write by link, which fails where something is. Raises `Exists`."""
        fresh = self._write(key, content)
        try:
            (self.root / key).hardlink_to(fresh)
        except FileExistsError as error:
            if self.get(key)[0] != content:
                raise Exists(key) from error
        finally:
            fresh.unlink()
        _sync(fresh.parent)

    def put_if(self, key: str, content: bytes, etag: str | None) -> None:
        """Compare and write under a lock of the whole store. Raises `Changed`."""
        with self._alone():
            try:
                found, found_etag = self.get(key)
            except Missing:
                found, found_etag = b"", ""
            if found_etag != (etag or "") and found != content:
                raise Changed(key)
            self.put(key, content)

    def size(self, key: str) -> int | None:
        """Return the size of the file."""
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put_file(self, key: str, path: Path, sha256: str) -> None:
        """Copy the file in, read-only; one of its size that is there is read, and replaced unless it is the same."""
        if self.size(key) == path.stat().st_size and digest_of(self.root / key) == sha256:
            return
        self._copy_in(key, path, sha256)

    def take_file(self, key: str, path: Path) -> None:
        """Move a file of the caller's in, read-only; its digest is the caller's word. Copies across file systems.

        What was there is replaced: it may be damaged, and whoever has it open keeps it.
        """
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _place(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy_in(key, path)
            path.unlink()

    def set_aside(self, key: str) -> Path:
        """Move a damaged file to where nobody looks for it, until `sweep` removes it; return where."""
        path = self.root / key
        return path.rename(path.with_name(f"{_ASIDE}{path.name}"))

    def fetch_file(self, key: str, path: Path, sha256: str, size: int) -> None:
        """Copy the file out. Raises `Missing`, `TrustError`."""
        source = self.root / key
        if self.size(key) is None:
            raise Missing(key)
        fresh = path.with_name(f".{path.name}.part")
        try:
            _copy(source, fresh, sha256, size=size)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Walk the folder; files that begin with a dot are writes under way."""
        return tuple(sorted(self._entries(self.root / folder), key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        """Unlink."""
        (self.root / key).unlink(missing_ok=True)

    def sweep(self, older_than_s: float) -> int:
        """Unlink temporary files, and damaged ones, that old."""
        limit_s = time.time() - older_than_s
        left = (path for mark in (_NEW, _ASIDE) for path in self.root.rglob(f"{mark}*"))
        stale = [path for path in left if path.stat().st_mtime < limit_s]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def url(self, key: str, expires_s: int) -> None:
        """Give none: a folder has no URL that a host could fetch from."""
        del key, expires_s

    def _copy_in(self, key: str, path: Path, sha256: str | None = None) -> None:
        fresh = self._fresh(key)
        try:
            _copy(path, fresh, sha256)
            _place(fresh, self.root / key)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise

    def _write(self, key: str, content: bytes) -> Path:
        fresh = self._fresh(key)
        fresh.write_bytes(content)
        fresh.chmod(0o644)
        _sync(fresh)
        return fresh

    def _fresh(self, key: str) -> Path:
        parent = (self.root / key).parent
        parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_NEW, dir=parent)
        os.close(descriptor)
        return Path(name)

    def _entries(self, folder: Path) -> Iterator[Entry]:
        for parent, _, names in os.walk(folder, onerror=_raise_unless_missing):
            for name in names:
                if name.startswith("."):
                    continue
                path = Path(parent) / name
                try:
                    facts = path.stat()
                except FileNotFoundError:  # deleted since the walk saw it
                    continue
                yield Entry(path.relative_to(self.root).as_posix(), facts.st_size, facts.st_mtime)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _raise_unless_missing(error: OSError) -> None:
    """Raise what a walk would pass over: a folder that may not be read is not an empty one."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _copy(source: Path, target: Path, sha256: str | None, *, size: int | None = None) -> None:
    """Copy, and compare where a digest is given. Raises `TrustError`."""
    shutil.copyfile(source, target)
    if sha256 is None:
        return
    found = digest_of(target)
    if found != sha256 or size not in (None, target.stat().st_size):
        raise TrustError(f"{source} is not what its digest says", details=f"wanted {sha256}\nfound  {found}")


def _place(fresh: Path, target: Path) -> None:
    fresh.chmod(0o444)
    _sync(fresh)
    fresh.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
