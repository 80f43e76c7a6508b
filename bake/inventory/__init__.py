"""Inventories: what layers and images hold, read from the blobs once per layer digest. SBOM, CVE scan and diff stand on them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from bake.inventory.document import LayerInventory, Node
from bake.inventory.make import Blobs, layer_inventory
from bake.inventory.packages import Package, installed_packages
from bake.inventory.tree import Placed, Tree
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.toolsroot import ToolsRoot

__all__ = ["Blobs", "ImageInventory", "LayerInventory", "Node", "Package", "Placed", "Tree", "image_inventory"]


@dataclass(frozen=True)
class ImageInventory:
    """An image and its layers as the host sees them."""

    image: Image
    tree: Tree

    @cached_property
    def packages(self) -> tuple[Package, ...]:
        """The installed Debian packages."""
        return installed_packages(self.tree)

    @cached_property
    def system(self) -> dict[str, str]:
        """The fields of os-release, such as ID and VERSION_CODENAME."""
        text = self.tree.text("etc/os-release") or self.tree.text("usr/lib/os-release") or ""
        lines = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {name: value.strip().strip("\"'") for name, _, value in lines}


def image_inventory(
    settings: Settings, blobs: Blobs, image: Image, tools: Callable[[], ToolsRoot] | None = None
) -> ImageInventory:
    """Return the inventory of `image`; what is not in the cache is made (bake/inventory/make.py). Raises its errors."""
    layers = [(layer.role, layer_inventory(settings, blobs, layer.digest, tools)) for layer in image.layers]
    return ImageInventory(image, Tree(layers))
