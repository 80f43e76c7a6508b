"""What makes an SBOM document one: derived from the image, never from a clock or chance."""

import uuid
from datetime import UTC, datetime

from qtrade.manifest import Image

NAMESPACE = "https://github.com/qtrade/qtrade/sbom"


def document_uuid(image: Image, kind: str) -> uuid.UUID:
    """Return the UUID of the `kind` of document of this image and version (RFC 4122, version 5)."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{kind}/{image.name}/{image.version}/{image.id}")


def timestamp(image: Image) -> str:
    """Return the image's epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(image.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
