"""The content-addressed cache: `cache/blobs/<sha256>/<file>` keeps the bytes of everything that is locked."""

import hashlib
import os
import shutil
from pathlib import Path

from qtrade.errors import TrustError
from qtrade.settings import Settings


def cached_path(settings: Settings, sha256: str, file: str) -> Path:
    """Return where the file with this digest is, or would be."""
    return settings.cache_dir / "blobs" / sha256 / file


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def check_bytes(path: Path, sha256: str, *, what: str) -> None:
    """Raise `TrustError` unless the cached file has the digest of the lock; `what` names it for people."""
    found = sha256_of(path)
    if found != sha256:
        raise TrustError(
            f"{what}: its file in the cache was changed",
            details=f"  file     {path}\n  expected {sha256}\n  found    {found}",
            resolution="delete that file and run `qtrade lock --fetch`; if it happens again, check the disk and who writes there",
        )


def adopt(path: Path, settings: Settings, sha256: str, *, move: bool = False) -> Path:
    """Put a file whose digest was checked into the cache, whole, and return its place. Without `move` it is linked or copied."""
    target = cached_path(settings, sha256, path.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if move:
        path.replace(target)
        return target
    fresh = target.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    link_or_copy(path, fresh)
    fresh.replace(target)
    return target


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy where file systems differ."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def lock_work(settings: Settings) -> Path:
    """Return the folder for work in progress of the lock; a bake may run beside it and clear its own."""
    return settings.state_dir / "lock-work"
