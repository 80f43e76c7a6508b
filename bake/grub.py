"""Makes the boot loader that the installer writes: GRUB for BIOS and UEFI, with one configuration for both."""

import shutil
from pathlib import Path
from typing import Any, Protocol

CONFIGURATION = Path(__file__).with_name("grub")

# fmt: off
MODULES = (
    "part_gpt", "fat", "ext2", "normal", "configfile", "test", "true", "echo", "sleep", "reboot", "halt", "linux", "loadenv",
    "regexp", "hashsum", "gcry_sha256", "search", "search_label", "search_fs_uuid", "serial", "terminal", "minicmd", "ls", "cat",
)
# fmt: on


class Tools(Protocol):
    """What is needed of the tools root."""

    root: Path

    def run(self, name: str, *args: str | Path) -> Any:
        """Run a program of the tools root to its end."""


def build_grub(tools: Tools, out_dir: Path) -> None:
    """Write boot.img, core.img (BIOS), BOOTX64.EFI (UEFI) and grub.cfg into `out_dir`.

    core.img looks for its files on the second partition of the disk that it was started from; the UEFI program on the
    partition that it was loaded from, which is the same one.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    modules = tools.root / "usr/lib/grub"
    early = CONFIGURATION / "early.cfg"
    _make_image(tools, "i386-pc", "(,gpt2)/grub", out_dir / "core.img", early, ("biosdisk",))
    _make_image(tools, "x86_64-efi", "/grub", out_dir / "BOOTX64.EFI", early, ("efi_gop",))
    shutil.copyfile(modules / "i386-pc/boot.img", out_dir / "boot.img")
    shutil.copyfile(CONFIGURATION / "grub.cfg", out_dir / "grub.cfg")


def _make_image(tools: Tools, platform: str, prefix: str, output: Path, early: Path, extra: tuple[str, ...]) -> None:
    tools.run(
        "grub-mkimage",
        "-O",
        platform,
        "-d",
        tools.root / "usr/lib/grub" / platform,
        "-p",
        prefix,
        "-c",
        early,
        "-o",
        output,
        *MODULES,
        *extra,
    )
