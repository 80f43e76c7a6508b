"""Reads files out of an image's installer: its boot loader is the one that a disk image gets too."""

from pathlib import Path

from qtrade.errors import TrustError
from qtrade.initrd import read_initrd
from qtrade.toolsroot import ToolsRoot

_GRUB = "usr/lib/qtrade/grub/"
_FILES = ("BOOTX64.EFI", "boot.img", "core.img", "grub.cfg")


def extract_grub(tools: ToolsRoot, installer: Path, folder: Path) -> None:
    """Write GRUB's files of the installer initrd to `folder`. Raises `TrustError` when it does not hold them."""
    found = {
        entry.name.removeprefix(_GRUB): entry.data
        for entry in read_initrd(tools, installer, folder)
        if entry.name.startswith(_GRUB)
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
