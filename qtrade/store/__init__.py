"""Where images are kept: content-addressed blobs, write-once versions, channels; in a folder or in any S3."""

from qtrade.store.documents import CHANNELS, BlobRecord, ChannelPointer, PublishedImage
from qtrade.store.open import LocalStore, open_store
from qtrade.store.store import Store

__all__ = [
    "CHANNELS",
    "BlobRecord",
    "ChannelPointer",
    "LocalStore",
    "PublishedImage",
    "Store",
    "open_store",
]
