"""The disc that boots the installer, from BIOS and UEFI: the same bytes for the same installer and command line."""

import hashlib
import os
import tempfile
from pathlib import Path

from flash.netboot.ipxe import BootPlan
from qtrade.toolsroot import ToolsRoot

_EPOCH = "1763856000"
_LABEL = "QTRADE"
_MODULES = (
    "iso9660",
    "normal",
    "linux",
    "search",
    "search_label",
    "echo",
    "reboot",
    "sleep",
    "test",
    "serial",
    "terminal",
)
_EARLY = f"search --no-floppy --label {_LABEL} --set=root\nset prefix=($root)/boot/grub\n"
_FAT_MIB = 4


def make_disc(tools: ToolsRoot, boot: BootPlan, job_url: str, target: Path) -> str:
    """Write the disc to `target` and return its SHA-256. `job_url` is where the installer gets its job. Raises `ToolError`."""
    with tempfile.TemporaryDirectory(prefix="qtrade-disc-") as folder:
        work = Path(folder)
        tree = work / "tree"
        (tree / "boot/grub").mkdir(parents=True)
        (tree / "boot/kernel").write_bytes(boot.kernel.read_bytes())
        (tree / "boot/initrd").write_bytes(boot.initrd.read_bytes())
        (tree / "boot/grub/grub.cfg").write_text(render_config(boot.command_line(job_url)))
        _make_bios(tools, work, tree / "boot/grub/bios.img")
        _make_uefi(tools, work, tree / "boot/grub/efi.img")
        for path in (*tree.rglob("*"), tree):
            os.utime(path, (int(_EPOCH), int(_EPOCH)))
        # Dates and ids of a disc would otherwise be of the moment.
        tools.run(
            "xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-V", _LABEL, "-o", target, "--modification-date=2025112300000000",
            "--set_all_file_dates", "set_to_mtime",
            "-b", "boot/grub/bios.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
            "-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", tree,
            env={"SOURCE_DATE_EPOCH": _EPOCH},
        )  # fmt: skip
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def render_config(cmdline: str) -> str:
    """Return GRUB's configuration on the disc. A kernel that does not load leads to the host's own boot order."""
    return (
        "serial --unit=0 --speed=115200\n"
        "terminal_output console serial\n"
        f"if linux /boot/kernel {cmdline}; then\n"
        "  if initrd /boot/initrd; then boot; fi\n"
        "fi\n"
        "echo 'qtrade: FAIL the installer on this disc cannot be loaded'\nsleep 10\nreboot\n"
    )


def _make_bios(tools: ToolsRoot, work: Path, target: Path) -> None:
    modules = tools.root / "usr/lib/grub/i386-pc"
    core = _make_core(tools, work, "i386-pc", work / "core.img", "biosdisk")
    target.write_bytes((modules / "cdboot.img").read_bytes() + core.read_bytes())


def _make_uefi(tools: ToolsRoot, work: Path, target: Path) -> None:
    program = _make_core(tools, work, "x86_64-efi", work / "BOOTX64.EFI", "efi_gop")
    with target.open("wb") as file:
        file.truncate(_FAT_MIB << 20)
    env = {"SOURCE_DATE_EPOCH": _EPOCH, "MTOOLSRC": "/dev/null", "TZ": "UTC"}
    tools.run("mkfs.vfat", "-i", "51545244", "-n", _LABEL, "--invariant", target, env=env)
    tools.run("mmd", "-i", target, "::/EFI", "::/EFI/BOOT", env=env)
    tools.run("mcopy", "-i", target, program, "::/EFI/BOOT/BOOTX64.EFI", env=env)


def _make_core(tools: ToolsRoot, work: Path, platform: str, output: Path, driver: str) -> Path:
    early = work / "early.cfg"
    early.write_text(_EARLY)
    folder = tools.root / "usr/lib/grub" / platform
    fat = ("part_gpt", "fat") if platform == "x86_64-efi" else ()
    options = ("-O", platform, "-d", folder, "-p", "/boot/grub", "-c", early, "-o", output)
    tools.run("grub-mkimage", *options, *_MODULES, *fat, driver)
    return output
