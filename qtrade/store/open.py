"""Open the store that the settings name."""

import hashlib
from pathlib import Path

from qtrade.errors import ToolError
from qtrade.settings import S3Address, Settings
from qtrade.store.blobs import LocalBlobs, RemoteBlobs
from qtrade.store.local import LocalObjects
from qtrade.store.store import Store


class LocalStore(Store):
    """The store in the folder `root`."""

    def __init__(self, root: Path) -> None:
        objects = LocalObjects(root)
        super().__init__(objects, LocalBlobs(objects))
        self.root = root


def open_store(settings: Settings) -> Store:
    """Return the store. Raises `ToolError` for S3 without boto3; nothing is asked of the server yet."""
    if isinstance(settings.store, S3Address):
        return _open_s3(settings.store, settings.state_dir / "store-cache")
    return LocalStore(settings.store)


def _open_s3(address: S3Address, cache: Path) -> Store:
    try:
        from qtrade.store.s3 import S3Objects  # noqa: PLC0415 - boto3 is an extra, and slow to import
    except ModuleNotFoundError as error:
        if error.name not in ("boto3", "botocore"):
            raise
        raise ToolError(
            f"the store {address} needs boto3", resolution="install it: pip install 'qtrade[s3]'"
        ) from error
    # Blobs are the same everywhere; an upload under way belongs to one bucket.
    place = hashlib.sha256(f"{address.endpoint} {address}".encode()).hexdigest()[:16]
    objects = S3Objects(address, cache / place)
    return Store(objects, RemoteBlobs(objects, cache))
