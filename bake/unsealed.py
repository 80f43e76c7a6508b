"""Layers and initial RAM filesystems that the seal has not looked through yet.

They wait in the state directory, so that a secret in one never leaves the machine.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from qtrade.settings import Settings
from qtrade.store import BlobRecord, LocalStore, Store

_FOLDER = "unsealed"


class Unsealed:
    """The layers of a bake: those that `store` has, and those that wait for the seal's scan. What waits outlives a killed bake."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.store = store
        self._folder = settings.state_dir / _FOLDER
        self._waiting = LocalStore(self._folder)

    def find_record(self, key: str) -> BlobRecord | None:
        """Return what `key` led to, in the store or here."""
        return self.store.find_record(key) or self._waiting.find_record(key)

    def add(self, path: Path, record: BlobRecord, paths: Iterable[str]) -> None:
        """Keep a layer back: its file is moved, and nothing of it goes to the store."""
        self._waiting.add_blob(path, record.digest)
        self._waiting.add_record(record, paths)

    def open_blob(self, digest: str) -> Path:
        """Return the layer's file, as `Store.open_blob`."""
        return self._store_of(digest).open_blob(digest)

    def locate_blob(self, digest: str) -> Path:
        """Return where the layer's file is, as `Store.locate_blob`."""
        return self._store_of(digest).locate_blob(digest)

    def _store_of(self, digest: str) -> Store:
        return self._waiting if self._waiting.has_blob(digest) else self.store

    def release(self, record: BlobRecord) -> None:
        """Give a layer that the seal let pass to the store; one that does not wait is there already.

        Its file stays here too until `clear`: a root may be about to be mounted from it.
        """
        if not self._waiting.has_blob(record.digest):
            return
        path = self._waiting.open_blob(record.digest)
        given = path.with_name(f".given-{path.name}")
        given.unlink(missing_ok=True)
        os.link(path, given)
        self.store.add_blob(given, record.digest)
        self.store.add_record(record, self._waiting.paths(record))

    def clear(self) -> None:
        """Forget what waits, at the end of a bake that released all that it needs."""
        shutil.rmtree(self._folder, ignore_errors=True)
