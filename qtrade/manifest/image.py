"""The image document: what a bake made. Canonical JSON, no clock."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from qtrade.manifest.base import Model, Name, Sha256, Version
from qtrade.manifest.inputs import RoleInputs


class ImageLayer(Model):
    """One EROFS blob. `size` in bytes; `verity` is the fs-verity SHA-256 digest of the file (4 KiB blocks, no salt)."""

    role: str
    key: Sha256
    digest: Sha256
    size: int
    verity: Sha256
    needs: tuple[str, ...]


class ImageBlob(Model):
    """A kernel or an initial RAM filesystem."""

    digest: Sha256
    size: int


class ImageComponent(Model):
    """Something in the image that is no Debian package."""

    name: Name
    version: Version
    sha256: Sha256
    standin: bool


class Image(Model):
    """A baked image. `id` is the SHA-256 of `list_text()`: layers, kernel, initrd and command line only."""

    schema_version: Literal[1] = 1
    name: Name
    version: Version
    id: Sha256
    epoch: int
    layers: tuple[ImageLayer, ...] = Field(min_length=1)
    kernel: ImageBlob
    kernel_release: str
    initrd: ImageBlob
    installer: ImageBlob
    cmdline: str
    components: tuple[ImageComponent, ...]
    inputs: dict[str, RoleInputs]

    @property
    def has_standins(self) -> bool:
        """Whether anything in the image only stands in for the real part."""
        return any(component.standin for component in self.components)

    def list_text(self) -> str:
        """Return the image list that the initramfs reads."""
        return render_list(self.layers, self.kernel, self.initrd, self.cmdline)

    def blobs(self) -> dict[str, int]:
        """Return the size in bytes of every blob that a host keeps, by digest (the installer is not one)."""
        layers = {layer.digest: layer.size for layer in self.layers}
        return {**layers, self.kernel.digest: self.kernel.size, self.initrd.digest: self.initrd.size}

    def to_json(self) -> str:
        """Return the canonical JSON text."""
        return canonical_json(self.model_dump(mode="json"))


def render_list(layers: tuple[ImageLayer, ...], kernel: ImageBlob, initrd: ImageBlob, cmdline: str) -> str:
    """Return the image list text (docs/architecture.md, "Image list and image id")."""
    lines = ["qtrade-image 1"]
    lines += [f"layer {layer.digest} {layer.size} {layer.verity} {layer.role}" for layer in layers]
    lines += [f"kernel {kernel.digest} {kernel.size}", f"initrd {initrd.digest} {initrd.size}", f"cmdline {cmdline}"]
    return "\n".join(lines) + "\n"


def image_id(list_text: str) -> str:
    """Return the image id: the SHA-256 of the list."""
    return hashlib.sha256(list_text.encode()).hexdigest()


def canonical_json(document: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal documents have equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
