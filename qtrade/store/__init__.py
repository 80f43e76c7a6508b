"""Where images are kept: content-addressed blobs, write-once versions."""

from qtrade.store.local import LocalStore
from qtrade.store.protocol import BlobRecord, PublishedImage, Store

__all__ = ["BlobRecord", "LocalStore", "PublishedImage", "Store"]
