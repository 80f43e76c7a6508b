"""Make inventories, once per layer digest: metadata from the blob itself, contents by `fsck.erofs --extract`."""

import hashlib
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from bake.inventory.document import Kind, LayerInventory, Node
from bake.inventory.erofs import ErofsReader, Inode
from bake.inventory.sources import is_copyright, is_kept, licence_names
from bake.whole_file import write_whole
from qtrade.errors import ToolError
from qtrade.settings import Settings
from qtrade.toolsroot import ToolsRoot, open_tools

_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_OPAQUE = "trusted.overlay.opaque"


class Blobs(Protocol):
    """What inventories need of a store."""

    def open_blob(self, digest: str) -> Path:
        """Return a local file with the blob's bytes, compared with the digest. Raises `NotFound`, `TrustError`."""
        ...


def layer_inventory(
    settings: Settings, blobs: Blobs, digest: str, tools: Callable[[], ToolsRoot] | None = None
) -> LayerInventory:
    """Return the inventory of a layer, from the cache or made now (no root, seconds for a large layer).

    The tools root is opened only when the inventory has to be made. Raises `NotFound`, `ToolError`, `TrustError`.
    """
    path = settings.cache_dir / "inventories" / f"{digest}.json"
    try:
        return LayerInventory.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        pass  # never made, or by an older qtrade
    blob = blobs.open_blob(digest)
    made = read_layer(tools() if tools else open_tools(settings), blob, digest, path.parent)
    write_whole(path, made.model_dump_json(exclude_defaults=True).encode())
    return made


def read_layer(tools: ToolsRoot, blob: Path, digest: str, scratch: Path) -> LayerInventory:
    """Return the inventory of the EROFS file `blob`. It is unpacked below `scratch` for as long as that takes."""
    inodes = dict(ErofsReader(blob).walk())
    nodes: dict[str, Node] = {}
    texts: dict[str, str] = {}
    licences: dict[str, tuple[str, ...]] = {}
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".unpack-") as folder:
        tree = Path(folder) / "tree"
        # Only metadata of the blob itself is believed; owners and modes of the copy are ours, so that no root is needed.
        tools.run("fsck.erofs", "--no-preserve", f"--extract={tree}", blob)
        for path, inode in inodes.items():
            content = inode.target
            if stat.S_ISREG(inode.mode):
                data = _read_copy(tree / path, inode.size)
                content = hashlib.sha256(data).hexdigest()
                if is_kept(path, inode.size):
                    texts[path] = data.decode(errors="replace")
                elif is_copyright(path) and (names := licence_names(data.decode(errors="replace"))):
                    licences[path] = names
            nodes[path] = _node(inode, content)
    return LayerInventory(format=1, digest=digest, nodes=nodes, texts=texts, licences=licences)


def _read_copy(path: Path, size: int) -> bytes:
    data = path.read_bytes()
    if len(data) != size:
        raise ToolError(f"fsck.erofs extracted {len(data)} bytes of {path.name}, which has {size}")
    return data


def _node(inode: Inode, content: str) -> Node:
    kind = _KINDS[stat.S_IFMT(inode.mode)]
    return Node(
        kind="whiteout" if kind == "char" and inode.device == 0 else kind,
        mode=stat.S_IMODE(inode.mode),
        uid=inode.uid,
        gid=inode.gid,
        size=inode.size if kind == "file" else 0,
        content=content,
        opaque=inode.xattrs.get(_OPAQUE) == b"y",
        xattrs={name: value.hex() for name, value in sorted(inode.xattrs.items()) if not name.startswith("trusted.")},
    )
