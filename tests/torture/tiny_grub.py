"""A second GRUB for the tiny guest's installer, so that an installation has one to replace; and what a disk must hold of either."""

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from bake import grub
from flash.agent import bios, ondisk
from qtrade.toolsroot import ToolsRoot

WHERE = "usr/lib/qtrade/grub"
_CODE_BYTES, _CORE_LBA = 440, 0x5C


@dataclass(frozen=True)
class Grub:
    """What an installer writes of GRUB."""

    boot: bytes
    core: bytes
    program: bytes
    config: bytes


def read_grub(folder: Path) -> Grub:
    names = ("boot.img", "core.img", "BOOTX64.EFI", "grub.cfg")
    return Grub(*((folder / name).read_bytes() for name in names))


def make_other(tools: ToolsRoot, like: Grub, folder: Path) -> Grub:
    """Write a GRUB with one module more, which changes all of its compressed part, and a comment more, into `folder`."""
    folder.mkdir(parents=True)
    for platform, prefix, name, own in (
        ("i386-pc", "(,gpt2)/grub", "core.img", "biosdisk"),
        ("x86_64-efi", "/grub", "BOOTX64.EFI", "efi_gop"),
    ):
        modules = tools.root / "usr/lib/grub" / platform
        options = ("-O", platform, "-d", modules, "-p", prefix, "-c", grub.CONFIGURATION / "early.cfg")
        tools.run("grub-mkimage", *options, "-o", folder / name, "gzio", *grub.MODULES, own)
    (folder / "boot.img").write_bytes(like.boot)
    (folder / "grub.cfg").write_bytes(b"# Another one.\n" * 300 + like.config)
    return read_grub(folder)


def add_to_installer(tools: ToolsRoot, installer: Path, tree: Path, out: Path) -> Path:
    """Write the installer with the files of `tree` over its own: the kernel unpacks one archive after the other."""
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    archive = out.with_suffix(".cpio")
    tools.run("cpio", "--quiet", "-o", "-H", "newc", "-O", archive, stdin=names.encode(), cwd=tree)
    shutil.copyfile(installer, out)
    with out.open("ab") as file:
        file.write(bytes(-out.stat().st_size % 512))
        file.write(archive.read_bytes())
    archive.unlink()
    return out


def find_faults(disk: Path, bios_boot: ondisk.Partition, esp: Path, grubs: tuple[Grub, ...]) -> list[str]:
    """Return what is torn of GRUB on a disk; `esp` is a copy of its ESP's files."""
    faults = []
    with disk.open("rb") as device:
        code = ondisk.read_at(device, 0, _CODE_BYTES)
        lba = struct.unpack_from("<Q", code, _CORE_LBA)[0]
        inside = range(bios_boot.start, bios_boot.start + bios_boot.size)
        cores = [bios.patch_core(one.core, lba) for one in grubs if code == bios.patch_boot(one.boot, lba)]
        found = [ondisk.read_at(device, lba * ondisk.SECTOR, len(core)) for core in cores]
        if lba * ondisk.SECTOR not in inside or not any(one == core for one, core in zip(found, cores, strict=True)):
            faults.append(f"BIOS: the first sector leads to sector {lba}, where no whole core.img is")
    for name, kinds in (
        ("grub/grub.cfg", {one.config for one in grubs}),
        ("EFI/BOOT/BOOTX64.EFI", {one.program for one in grubs}),
    ):
        data = (esp / name).read_bytes() if (esp / name).is_file() else b""
        if data not in kinds:
            faults.append(f"the ESP's {name} is torn: {len(data)} bytes")
    return faults
