"""Read the metadata of an EROFS blob: names, modes, owners, devices, link targets and extended attributes.

No root and no mount are needed. Contents may be compressed; those are `fsck.erofs`'s to extract. Layout: the kernel's
Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
"""

import mmap
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtrade.errors import TrustError

_MAGIC = 0xE0F5E1E2
_SUPER_AT = 1024
# magic, checksum, compat, blkszbits, extslots, root_nid, inos, build_time, nsec, blocks, meta_blkaddr, xattr_blkaddr
_SUPER = struct.Struct("<IIIBBHQQIIII")
_DIR_BITS_AT = _SUPER_AT + 90
_COMPACT = struct.Struct("<HHHHIIIIHHI")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16s")
_DIRENT = struct.Struct("<QHBB")
_XATTR_HEAD = 12
_PLAIN, _INLINE = 0, 2
_PREFIXES = {1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}


@dataclass(frozen=True)
class Inode:
    """One inode. `mode` holds the type too; `size` in bytes; `device` is 0 but for device nodes."""

    nid: int
    mode: int
    uid: int
    gid: int
    size: int
    device: int
    target: str
    xattrs: dict[str, bytes]


class ErofsReader:
    """The metadata of the blob at `path`. Raises `TrustError` when it is no EROFS that this reader knows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.stat().st_size < _SUPER_AT + _SUPER.size:
            raise self._damaged("it is too short")
        with path.open("rb") as source:
            self._data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        fields = _SUPER.unpack_from(self._data, _SUPER_AT)
        if fields[0] != _MAGIC:
            raise self._damaged("it has no EROFS magic number")
        self._block = 1 << fields[3]
        self._dir_block = self._block << self._data[_DIR_BITS_AT]
        self._root, self._meta, self._shared = fields[5], fields[10] * self._block, fields[11] * self._block

    def walk(self) -> Iterator[tuple[str, Inode]]:
        """Yield (path relative to the root, inode) of everything but the root, parents before children."""
        pending, seen = [("", self._root)], set[int]()
        try:
            if not stat.S_ISDIR(self._head(self._root)[2]):
                raise self._damaged("its root is no folder")
            while pending:
                folder, nid = pending.pop()
                if nid in seen:
                    raise self._damaged(f"the folder {folder} stands in two places")
                seen.add(nid)
                for name, child in sorted(self._entries(nid)):
                    path = f"{folder}{name}"
                    inode = self._inode(child)
                    yield path, inode
                    if stat.S_ISDIR(inode.mode):
                        pending.append((f"{path}/", child))
        except (struct.error, ValueError, IndexError) as error:
            raise self._damaged(str(error)) from error

    def _entries(self, nid: int) -> Iterator[tuple[str, int]]:
        content = self._content(nid)
        for start in range(0, len(content), self._dir_block):
            block = content[start : start + self._dir_block]
            count = _DIRENT.unpack_from(block, 0)[1] // _DIRENT.size
            heads = [_DIRENT.unpack_from(block, index * _DIRENT.size) for index in range(count)]
            ends = [head[1] for head in heads[1:]] + [len(block)]
            for (child, offset, _, _), end in zip(heads, ends, strict=True):
                name = block[offset:end].rstrip(b"\0").decode(errors="surrogateescape")
                if name not in (".", ".."):
                    yield name, child

    def _inode(self, nid: int) -> Inode:
        head, _, mode, uid, gid, size, union = self._head(nid)
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        target = self._content(nid).decode(errors="surrogateescape") if stat.S_ISLNK(mode) else ""
        return Inode(nid, mode, uid, gid, size, union if is_device else 0, target, self._xattrs(nid, head))

    def _head(self, nid: int) -> tuple[int, int, int, int, int, int, int]:
        """Return (bytes of the inode, data layout, mode, uid, gid, size, block address or device)."""
        at = self._meta + nid * 32
        form = struct.unpack_from("<H", self._data, at)[0]
        layout = form >> 1 & 7
        if form & 1:
            fields = _EXTENDED.unpack_from(self._data, at)
            return _EXTENDED.size, layout, fields[2], fields[7], fields[8], fields[4], fields[5]
        fields = _COMPACT.unpack_from(self._data, at)
        return _COMPACT.size, layout, fields[2], fields[8], fields[9], fields[4], fields[6]

    def _xattr_bytes(self, nid: int) -> int:
        count = struct.unpack_from("<H", self._data, self._meta + nid * 32 + 2)[0]
        return _XATTR_HEAD + 4 * (count - 1) if count else 0

    def _content(self, nid: int) -> bytes:
        """Return the bytes of a folder or symbolic link, which are never compressed."""
        head, layout, _, _, _, size, address = self._head(nid)
        if layout == _PLAIN:
            return self._slice(address * self._block, size)
        if layout != _INLINE:
            raise self._damaged(f"inode {nid} has data layout {layout}, which folders and links never have")
        outside = max(-(-size // self._block) - 1, 0) * self._block
        tail_at = self._meta + nid * 32 + head + self._xattr_bytes(nid)
        return self._slice(address * self._block, outside) + self._slice(tail_at, size - outside)

    def _slice(self, at: int, size: int) -> bytes:
        if size and at + size > len(self._data):
            raise self._damaged(f"bytes {at}..{at + size} are beyond its end")
        return self._data[at : at + size]

    def _xattrs(self, nid: int, head: int) -> dict[str, bytes]:
        length = self._xattr_bytes(nid)
        if not length:
            return {}
        at = self._meta + nid * 32 + head
        end = at + length
        shared = self._data[at + 4]
        found = {}
        for index in range(shared):
            number = struct.unpack_from("<I", self._data, at + _XATTR_HEAD + 4 * index)[0]
            name, value, _ = self._xattr(self._shared + 4 * number)
            found[name] = value
        at += _XATTR_HEAD + 4 * shared
        while at + 4 <= end:
            name, value, at = self._xattr(at)
            found[name] = value
        return found

    def _xattr(self, at: int) -> tuple[str, bytes, int]:
        """Return name, value and where the next one may stand."""
        name_size, index, value_size = struct.unpack_from("<BBH", self._data, at)
        if index not in _PREFIXES:
            raise self._damaged(f"an extended attribute has the unknown name index {index}")
        name = self._slice(at + 4, name_size).decode()
        value = self._slice(at + 4 + name_size, value_size)
        return _PREFIXES[index] + name, value, at + (4 + name_size + value_size + 3) // 4 * 4

    def _damaged(self, why: str) -> TrustError:
        return TrustError(
            f"{self._path.name} is no EROFS blob that qtrade made",
            details=f"{self._path}: {why}",
            resolution="check the store; bake the version again under another number",
        )
