"""Stores and objects over a test's S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtrade.settings import S3Address
from qtrade.store import LocalStore, Store
from qtrade.store.blobs import RemoteBlobs
from qtrade.store.s3 import S3Objects
from tests.fakes.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server, Stored

PART = 5 << 20  # the least that S3 takes

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@contextmanager
def open_objects(
    endpoint: str, scratch: Path, *, part_bytes: int = PART, prefix: str = "qtrade"
) -> Iterator[S3Objects]:
    objects = S3Objects(S3Address("images", prefix, endpoint), scratch, part_bytes=part_bytes, attempts=3)
    try:
        yield objects
    finally:
        objects.close()


def remote_store(objects: S3Objects, cache: Path) -> Store:
    return Store(objects, RemoteBlobs(objects, cache))


def copy_store(store: LocalStore, server: S3Server) -> None:
    """Put everything of a folder's store into the bucket."""
    for folder in ("blobs/", "records/", "versions/"):
        for entry in store.objects.list(folder):
            content, etag = store.objects.get(entry.key)
            server.objects[f"qtrade/{entry.key}"] = Stored(content, f'"{etag}"')
