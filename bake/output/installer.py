"""Reads files out of an image's installer: its boot loader is the one that a disk image gets too."""

from collections.abc import Generator, Iterator
from pathlib import Path

from qtrade.errors import TrustError
from qtrade.toolsroot import ToolsRoot

_GRUB = "usr/lib/qtrade/grub/"
_FILES = ("BOOTX64.EFI", "boot.img", "core.img", "grub.cfg")
_MAGIC = b"070701"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_HEADER_BYTES = 110
_TRAILER = "TRAILER!!!"


def extract_grub(tools: ToolsRoot, installer: Path, folder: Path) -> None:
    """Write GRUB's files of the installer initrd to `folder`. Raises `TrustError` when it does not hold them."""
    found = {
        name.removeprefix(_GRUB): data for name, data in read_initrd(tools, installer, folder) if name.startswith(_GRUB)
    }
    missing = [name for name in _FILES if name not in found]
    if missing:
        raise TrustError(
            f"the installer of this image has no {', '.join(missing)}",
            details=str(installer),
            resolution="bake the version again under another number",
        )
    for name in _FILES:
        (folder / name).write_bytes(found[name])


def read_initrd(tools: ToolsRoot, initrd: Path, work: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file of an initrd as mkinitramfs makes it: plain archives, then one under zstd."""
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


def _read_archive(data: bytes) -> Generator[tuple[str, bytes], None, int]:
    """Yield the files of one archive (cpio, "newc"); return where it ends."""
    at = 0
    while data[at : at + 6] == _MAGIC:
        size, name_size = (int(data[at + offset : at + offset + 8], 16) for offset in (54, 94))
        start = _align(at + _HEADER_BYTES + name_size)
        name = data[at + _HEADER_BYTES : at + _HEADER_BYTES + name_size - 1].decode(errors="replace")
        at = _align(start + size)
        if name == _TRAILER:
            return at
        yield name.removeprefix("./"), data[start : start + size]
    raise TrustError("the installer is no archive that mkinitramfs makes", resolution="bake the version again")


def _align(offset: int) -> int:
    return -(-offset // 4) * 4
