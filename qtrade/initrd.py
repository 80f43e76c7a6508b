"""Reads initial RAM filesystems as mkinitramfs makes them: plain archives (cpio, "newc"), then one under zstd."""

import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

from qtrade.errors import TrustError
from qtrade.toolsroot import ToolsRoot

_MAGIC = b"070701"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_HEADER_BYTES = 110
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file, folder or link; `mode` holds its kind too, `data` a link's target."""

    name: str
    mode: int
    data: bytes


def read_initrd(tools: ToolsRoot, initrd: Path, work: Path) -> Iterator[Entry]:
    """Yield what an initrd holds; `work` is a folder for scratch files. Raises `TrustError` for another format."""
    data = initrd.read_bytes()
    while data:
        if data.startswith(_ZSTD_MAGIC):
            packed, plain = work / "initrd.zst", work / "initrd.cpio"
            packed.write_bytes(data)
            tools.run("zstd", "-q", "-d", "-f", packed, "-o", plain)
            packed.unlink()
            data = plain.read_bytes()
            plain.unlink()
        end = yield from _read_archive(data)
        data = data[end:].lstrip(b"\0")


def write_tar(entries: Iterator[Entry], target: Path) -> None:
    """Write files, folders and links as a tar, for systems without cpio. Of two with one name the last counts."""
    unique = {entry.name: entry for entry in entries}
    first: dict[bytes, str] = {}
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, entry in sorted(unique.items()):
            info = tarfile.TarInfo(name)
            info.mode = entry.mode & ~S_IFMT(entry.mode)
            if S_ISDIR(entry.mode):
                info.type = tarfile.DIRTYPE
            elif S_ISLNK(entry.mode):
                info.type, info.linkname = tarfile.SYMTYPE, entry.data.decode()
            elif entry.data and (linked := first.setdefault(entry.data, name)) != name:
                info.type, info.linkname = tarfile.LNKTYPE, linked
            elif S_ISREG(entry.mode):
                info.size = len(entry.data)
            else:
                continue
            archive.addfile(info, BytesIO(entry.data) if info.size else None)


def _read_archive(data: bytes) -> Generator[Entry, None, int]:
    """Yield what one archive holds; return where it ends."""
    at = 0
    # Of names with one content, only the last one carries it.
    waiting: dict[int, list[Entry]] = {}
    while data[at : at + 6] == _MAGIC:
        inode, mode, size, name_size = (int(data[at + offset : at + offset + 8], 16) for offset in (6, 14, 54, 94))
        start = _align(at + _HEADER_BYTES + name_size)
        name = data[at + _HEADER_BYTES : at + _HEADER_BYTES + name_size - 1].decode(errors="replace")
        at = _align(start + size)
        if name == _TRAILER:
            yield from (entry for linked in waiting.values() for entry in linked)
            return at
        entry = Entry(name.removeprefix("./"), mode, data[start : start + size])
        if S_ISREG(mode) and size == 0:
            waiting.setdefault(inode, []).append(entry)
            continue
        if S_ISREG(mode):
            yield from (replace(linked, data=entry.data) for linked in waiting.pop(inode, []))
        yield entry
    raise TrustError("the installer is no archive that mkinitramfs makes", resolution="bake the version again")


def _align(offset: int) -> int:
    return -(-offset // 4) * 4
