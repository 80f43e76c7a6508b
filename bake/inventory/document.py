"""The inventory of a layer: what its blob holds, as one document per layer digest."""

from typing import Literal

from pydantic import Field

from qtrade.manifest.base import Model, Sha256

Kind = Literal["file", "dir", "link", "char", "block", "fifo", "socket", "whiteout"]


class Node(Model):
    """One path. `mode` has the permission bits only; `size` in bytes; `content` is a file's SHA-256 or a link's target.

    `opaque`: the folder hides what lower layers have in it. `xattrs` are the other extended attributes, values in hex.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int = 0
    content: str = ""
    opaque: bool = False
    xattrs: dict[str, str] = Field(default_factory=dict)


class LayerInventory(Model):
    """What one layer holds. Raise `format` when what is kept changes: documents of another format are made again.

    `nodes` by path relative to the root. `texts`: contents of the small files that facts are read from (sources.py).
    `licences`: short licence names by path of a machine-readable copyright file.
    """

    format: Literal[1]
    digest: Sha256
    nodes: dict[str, Node]
    texts: dict[str, str]
    licences: dict[str, tuple[str, ...]]
