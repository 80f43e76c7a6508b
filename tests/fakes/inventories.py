"""Inventories made by hand, and images whose inventories are in the cache, so that no blob is needed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bake.inventory import ImageInventory, LayerInventory, Node, Tree
from bake.inventory.sources import is_kept
from qtrade.manifest import Image, ImageLayer
from qtrade.settings import Settings
from tests.fakes.examples import make_image, sha

OS_RELEASE = 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_CODENAME=trixie\n'


def file(text: str = "", *, mode: int = 0o644, uid: int = 0, gid: int = 0, capability: str = "") -> Node:
    """Return a file with `text`; its text is kept where `is_kept` says so."""
    content = text.encode()
    xattrs = {"security.capability": capability} if capability else {}
    return Node(
        kind="file",
        mode=mode,
        uid=uid,
        gid=gid,
        size=len(content),
        content=hashlib.sha256(content).hexdigest(),
        xattrs=xattrs,
    )


def link(target: str) -> Node:
    """Return a symbolic link."""
    return Node(kind="link", mode=0o777, uid=0, gid=0, content=target)


def folder(*, opaque: bool = False) -> Node:
    """Return a folder."""
    return Node(kind="dir", mode=0o755, uid=0, gid=0, opaque=opaque)


WHITEOUT = Node(kind="whiteout", mode=0, uid=0, gid=0)


def layer(
    name: str, content: Mapping[str, str | Node], licences: Mapping[str, tuple[str, ...]] | None = None
) -> LayerInventory:
    """Return the inventory of a layer with these paths and the folders above them: a text is a plain file."""
    parents = {str(parent) for path in content for parent in PurePosixPath(path).parents} - {"."}
    nodes = {path: folder() for path in sorted(parents)}
    nodes |= {path: file(item) if isinstance(item, str) else item for path, item in content.items()}
    texts = {path: item for path, item in content.items() if isinstance(item, str) and is_kept(path, len(item))}
    return LayerInventory(format=1, digest=sha(name), nodes=nodes, texts=texts, licences=dict(licences or {}))


def tree(*layers: Mapping[str, str | Node]) -> Tree:
    """Return the stack of layers named base, l1, l2…"""
    names = ["base", *[f"l{number}" for number in range(1, len(layers))]]
    return Tree([(name, layer(name, content)) for name, content in zip(names, layers, strict=True)])


def paragraph(name: str, version: str, source: str = "", status: str = "install ok installed") -> str:
    """Return a paragraph of the dpkg database."""
    fields = {"Package": name, "Status": status, "Architecture": "amd64", "Maintainer": "Makers <makers@example.org>"}
    if source:
        fields["Source"] = source
    return "\n".join(f"{key}: {value}" for key, value in {**fields, "Version": version}.items()) + "\n"


def status(*paragraphs: str) -> dict[str, str]:
    """Return the dpkg database and os-release of a layer."""
    return {"var/lib/dpkg/status": "\n".join(paragraphs), "etc/os-release": OS_RELEASE}


def inventory(*layers: Mapping[str, str | Node], **changes: Any) -> ImageInventory:
    """Return the inventory of an image of these layers; `changes` are fields of the image."""
    stack = tree(*layers)
    parts = tuple(
        ImageLayer(
            role=role, key=sha(role), digest=_digest(made), size=1000 + len(made.nodes), verity=sha("v"), needs=()
        )
        for role, made in stack.layers
    )
    return ImageInventory(make_image(layers=parts, **changes), stack)


def cache_inventory(settings: Settings, made: ImageInventory) -> Image:
    """Put the inventories of the image's layers into the cache, and files of its blobs' sizes into the store; return the image."""
    target = settings.cache_dir / "inventories"
    target.mkdir(parents=True, exist_ok=True)
    for (_, content), part in zip(made.tree.layers, made.image.layers, strict=True):
        (target / f"{part.digest}.json").write_text(content.model_dump_json())
    blobs = Path(str(settings.store), "blobs")
    blobs.mkdir(parents=True, exist_ok=True)
    image = made.image
    for digest, size in {**image.blobs(), image.installer.digest: image.installer.size}.items():
        (blobs / digest).write_bytes(bytes(size))
    return image


def _digest(made: LayerInventory) -> str:
    return hashlib.sha256(made.model_dump_json().encode()).hexdigest()
