"""Who is at work on a store: publishers claim what they count on, collectors announce themselves.

A publisher writes its claim before it looks for collectors; a collector announces itself before it looks for claims.
So one of the two sees the other, on any store whose listings show what was written (a folder, and every S3 today).
"""

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qtrade.errors import ConflictError
from qtrade.store.objects import Missing, Objects, key_of

_CLAIMS, _COLLECTORS = "claims", "collectors"
# What is older was left by a process that was killed. S3 itself refuses clocks that are off by a quarter of an hour.
STALE_S = 3600.0
_PATIENCE_S = 60.0
_POLL_S = 0.5


@dataclass(frozen=True)
class Claim:
    """What a publisher counts on: digests of blobs, and versions as (recipe, version)."""

    blobs: frozenset[str] = frozenset()
    versions: frozenset[tuple[str, str]] = frozenset()


@contextmanager
def claim(objects: Objects, wanted: Claim, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Hold `wanted` against collectors that begin now. Raises `ConflictError` while one that began before does not end."""
    document = {"blobs": sorted(wanted.blobs), "versions": sorted(wanted.versions)}
    with _mark(objects, _CLAIMS, json.dumps(document).encode()):
        end = time.monotonic() + patience_s
        while _live(objects, _COLLECTORS):
            if time.monotonic() >= end:
                raise ConflictError(
                    "the store is being collected (`qtrade images gc`)",
                    resolution="wait until that command ends, then run this one again",
                )
            time.sleep(_POLL_S)
        yield


@contextmanager
def collecting(objects: Objects) -> Iterator[None]:
    """Announce a collector."""
    with _mark(objects, _COLLECTORS, b"{}"):
        yield


def read_claims(objects: Objects) -> Claim:
    """Return everything that is claimed now."""
    blobs: set[str] = set()
    versions: set[tuple[str, str]] = set()
    for key in _live(objects, _CLAIMS):
        try:
            document = json.loads(objects.get(key)[0])
        except Missing:  # released since the listing: what it held is published, or was given up
            continue
        blobs |= set(document["blobs"])
        versions |= {(recipe, version) for recipe, version in document["versions"]}
    return Claim(frozenset(blobs), frozenset(versions))


def sweep_marks(objects: Objects) -> None:
    """Remove the marks of processes that were killed."""
    for kind in (_CLAIMS, _COLLECTORS):
        live = set(_live(objects, kind))
        for entry in objects.list(f"{kind}/"):
            if entry.key not in live:
                objects.delete(entry.key)


@contextmanager
def _mark(objects: Objects, kind: str, content: bytes) -> Iterator[None]:
    key = key_of(kind, secrets.token_hex(16))
    objects.put_new(key, content)
    try:
        yield
    finally:
        objects.delete(key)


def _live(objects: Objects, kind: str) -> Iterable[str]:
    limit_s = time.time() - STALE_S
    return [entry.key for entry in objects.list(f"{kind}/") if entry.modified_s > limit_s]
