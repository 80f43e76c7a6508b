"""What two blobs of the same part of an image differ in: file by file, with the package that owns it."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtrade.initrd import read_initrd
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.toolsroot import ToolsRoot, open_tools

# What is known of each file, by its path.
_Tree = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Difference:
    """A file that two bakes made differently: the package that owns it, if any, and in what it differs."""

    layer: str
    path: str
    package: str
    what: str

    def __str__(self) -> str:
        owner = f" (package {self.package})" if self.package else ""
        return f"{self.layer}: {self.path}{owner}: {self.what}"


def explain_layer(
    tools: ToolsRoot, role: str, blobs: tuple[Path, Path], owners: "Owners", work: Path
) -> Iterator[Difference]:
    """Unpack both blobs of a layer below `work` and yield what differs (root)."""
    trees = []
    for name, blob in zip(("first", "second"), blobs, strict=True):
        tree = work / f"{role}-{name}"
        tools.run("fsck.erofs", f"--extract={tree}", "--xattrs", blob)
        trees.append(_list_tree(tree))
        shutil.rmtree(tree)
    yield from _compare(role, trees[0], trees[1], owners)


def explain_initramfs(
    tools: ToolsRoot, name: str, blobs: tuple[Path, Path], owners: "Owners", work: Path
) -> Iterator[Difference]:
    """Read both archives of an initial RAM filesystem and yield what differs."""
    first, second = (
        {
            entry.name: {"mode": f"{entry.mode:o}", "content": hashlib.sha256(entry.data).hexdigest()}
            for entry in read_initrd(tools, blob, work)
        }
        for blob in blobs
    )
    yield from _compare(name, first, second, owners)


def _compare(layer: str, first: _Tree, second: _Tree, owners: "Owners") -> Iterator[Difference]:
    for path in sorted({*first, *second}):
        before, after = first.get(path), second.get(path)
        if before != after:
            yield Difference(layer, path, owners.package_of(path), _differs(before, after))
    if first == second:
        yield Difference(layer, "/", "", "the blob's bytes, though all files are equal")


def _list_tree(root: Path) -> _Tree:
    found = {}
    for folder, folders, files in os.walk(root):
        here = (".",) if Path(folder) == root else ()
        for name in (*here, *folders, *files):
            path = Path(folder) / name
            facts = path.lstat()
            fields = {
                "mode": f"{facts.st_mode:o}",
                "owner": f"{facts.st_uid}:{facts.st_gid}",
                "time": str(int(facts.st_mtime)),
                "attributes": _attributes(path),
            }
            if stat.S_ISREG(facts.st_mode):
                with path.open("rb") as source:
                    fields["content"] = hashlib.file_digest(source, "sha256").hexdigest()
            elif stat.S_ISLNK(facts.st_mode):
                fields["target"] = os.readlink(path)  # noqa: PTH115 - compared as it is written
            found[path.relative_to(root).as_posix()] = fields
    return found


def _attributes(path: Path) -> str:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return ", ".join(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in names)


def _differs(before: dict[str, str] | None, after: dict[str, str] | None) -> str:
    if before is None:
        return "only in the second bake"
    if after is None:
        return "only in the first bake"
    return ", ".join(sorted(name for name in {*before, *after} if before.get(name) != after.get(name)))


class Owners:
    """Which package owns a path, by the file lists of the package database in the image's layers."""

    def __init__(self, settings: Settings, store: Store, image: Image) -> None:
        self._settings, self._store, self._image = settings, store, image
        self._known: dict[str, str] | None = None

    def package_of(self, path: str) -> str:
        """Return the package's name, or an empty text."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(f"/{path}", "")

    def _read(self) -> dict[str, str]:
        tools = open_tools(self._settings)
        known = {}
        for layer in self._image.layers:
            folder = self._settings.work_dir / f"owners-{layer.role}"
            blob = self._store.open_blob(layer.digest)
            done = tools.run("fsck.erofs", f"--extract={folder}", blob, check=False)
            if done.returncode == 0:
                for listing in (folder / "var/lib/dpkg/info").glob("*.list"):
                    package = listing.name.removesuffix(".list").partition(":")[0]
                    known.update(dict.fromkeys(listing.read_text().splitlines(), package))
            shutil.rmtree(folder, ignore_errors=True)
        return known
