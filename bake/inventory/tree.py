"""The layers of an image seen as the host sees them: stacked, the topmost copy of a path wins."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bake.inventory.document import LayerInventory, Node

_MOST_LINKS = 40


@dataclass(frozen=True)
class Placed:
    """A path of the stack and the role of the layer that it comes from."""

    node: Node
    layer: str


class Tree:
    """The stack of `layers`: (role, inventory), lowest first. Whiteouts and opaque folders hide what is below them."""

    def __init__(self, layers: Sequence[tuple[str, LayerInventory]]) -> None:
        self.layers = tuple(layers)
        self._by_role = dict(layers)
        self.nodes: dict[str, Placed] = {}
        for role, inventory in layers:
            self._stack(role, inventory)

    def _stack(self, role: str, inventory: LayerInventory) -> None:
        over = ((path, node) for path, node in inventory.nodes.items() if node.opaque or node.kind != "dir")
        # Only below a folder is there something to hide; looking through all paths takes its time.
        hiding = {path for path, _ in over if path in self.nodes and self.nodes[path].node.kind == "dir"}
        hidden = [path for path in self.nodes if self._has_parent_in(path, hiding)] if hiding else []
        for path in hidden:
            del self.nodes[path]
        for path, node in inventory.nodes.items():
            if node.kind == "whiteout":
                self.nodes.pop(path, None)
            else:
                self.nodes[path] = Placed(node, role)

    @staticmethod
    def _has_parent_in(path: str, folders: set[str]) -> bool:
        parent = posixpath.dirname(path)
        while parent:
            if parent in folders:
                return True
            parent = posixpath.dirname(parent)
        return False

    def resolve(self, path: str) -> str | None:
        """Return the path that `path` leads to, links followed; None when there is nothing or it leaves the root."""
        pending, done, links = [part for part in path.split("/") if part], "", 0
        while pending:
            part = pending.pop(0)
            if part == ".":
                continue
            if part == "..":
                done = posixpath.dirname(done)
                continue
            here = f"{done}/{part}" if done else part
            placed = self.nodes.get(here)
            if placed is None:
                return None
            if placed.node.kind != "link":
                done = here
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            target = placed.node.content
            if target.startswith("/"):
                done = ""
            pending = [piece for piece in target.split("/") if piece] + pending
        return done or None

    def text(self, path: str) -> str | None:
        """Return the kept text of the file that `path` leads to, or None."""
        found = self.resolve(path)
        if found is None or self.nodes[found].node.kind != "file":
            return None
        return self._by_role[self.nodes[found].layer].texts.get(found)

    def licences(self, path: str) -> tuple[str, ...]:
        """Return the licence names that the copyright file at `path` gives, or none."""
        found = self.resolve(path)
        return () if found is None else self._by_role[self.nodes[found].layer].licences.get(found, ())

    def under(self, folder: str) -> Iterator[tuple[str, Placed]]:
        """Yield what is below `folder`, in the order of the names."""
        start = f"{folder}/"
        for path in sorted(name for name in self.nodes if name.startswith(start)):
            yield path, self.nodes[path]
