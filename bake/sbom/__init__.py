"""SBOMs of an image, CycloneDX and SPDX: packages, components, kernel. Deterministic: no clock, no chance."""

from collections.abc import Callable
from typing import Literal, Protocol

from bake.inventory import Blobs, ImageInventory, image_inventory
from bake.sbom.cyclonedx import render_cyclonedx
from bake.sbom.parts import Part, parts_of
from bake.sbom.spdx import render_spdx
from qtrade.manifest import Image
from qtrade.manifest.image import canonical_json
from qtrade.settings import Settings
from qtrade.toolsroot import ToolsRoot

__all__ = ["Format", "Part", "documents", "parts_of", "render", "store_documents"]

Format = Literal["cyclonedx", "spdx"]


class DocumentStore(Blobs, Protocol):
    """What keeping SBOMs needs of a store."""

    def put_document(self, content: bytes) -> str:
        """Keep a small document; return its SHA-256."""
        ...


def documents(
    settings: Settings, blobs: Blobs, image: Image, tools: Callable[[], ToolsRoot] | None = None
) -> tuple[bytes, bytes]:
    """Return the CycloneDX and the SPDX document of `image` as canonical JSON.

    Works from cached inventories; `tools` gives the tools root where one has to be made. Raises the errors of
    `image_inventory`.
    """
    inventory = image_inventory(settings, blobs, image, tools)
    return render(inventory, "cyclonedx"), render(inventory, "spdx")


def render(inventory: ImageInventory, form: Format) -> bytes:
    """Return one document as canonical JSON with a newline at its end."""
    parts = parts_of(inventory)
    document = render_cyclonedx(inventory, parts) if form == "cyclonedx" else render_spdx(inventory, parts)
    return (canonical_json(document) + "\n").encode()


def store_documents(
    settings: Settings, store: DocumentStore, image: Image, tools: Callable[[], ToolsRoot] | None = None
) -> dict[str, str]:
    """Put both documents into the store; return the predicate of the SBOM attestation: their digests."""
    cyclonedx, spdx = documents(settings, store, image, tools)
    return {"cyclonedx": store.put_document(cyclonedx), "spdx": store.put_document(spdx)}
