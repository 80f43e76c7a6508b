"""The tools root: mkfs.erofs, GRUB, QEMU and the like of one Debian suite, so that bytes do not depend on the machine.

Its programs run without chroot and without root: the root's own dynamic loader starts them with the root's libraries.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from qtrade import process
from qtrade.errors import ToolError
from qtrade.settings import Settings

SUITE = "trixie"
PACKAGES = (
    "cpio",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "fdisk",
    "fsverity",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "ipxe",
    "ipxe-qemu",
    "mtools",
    "ovmf",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
    "tar",
    "xorriso",
    "zstd",
)
# What dpkg leaves out of every root; licences stay.
PATH_RULES = (
    "exclude=/usr/share/man/*",
    "exclude=/usr/share/doc/*",
    "include=/usr/share/doc/*/copyright",
    "exclude=/usr/share/locale/*",
)
_MARK = ".qtrade-key"
_FOLDERS = ("usr/bin", "usr/sbin")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio", "usr/lib/x86_64-linux-gnu/systemd")


class ToolsRoot:
    """Programs of a tools root that exists."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def argv(self, name: str, *args: str | Path) -> list[str]:
        """Return the command line that runs `name` of the root. Raises `ToolError` when the root does not have it."""
        program = next((self.root / folder / name for folder in _FOLDERS if (self.root / folder / name).exists()), None)
        if program is None:
            raise ToolError(
                f"the tools root has no {name}", resolution=f"delete {self.root} and run `qtrade bake` again"
            )
        libraries = ":".join(str(self.root / folder) for folder in _LIBRARIES)
        loader = self.root / "lib64/ld-linux-x86-64.so.2"
        return [str(loader), "--library-path", libraries, str(program), *[str(arg) for arg in args]]

    def run(
        self,
        name: str,
        *args: str | Path,
        timeout_s: float = 600,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        check: bool = True,
    ) -> process.Completed:
        """Run `name` to its end; as `process.run`."""
        return process.run(self.argv(name, *args), timeout_s=timeout_s, env=env, stdin=stdin, cwd=cwd, check=check)


def open_tools(settings: Settings) -> ToolsRoot:
    """Return the tools root that was made last (`bake/tools.py` makes it).

    Raises `ToolError` when it was not made yet or is another than this version needs.
    """
    target = settings.tools_dir.resolve()
    if not has_tools(target):
        raise ToolError("the tools root is missing", resolution="run `qtrade tools` (as root) to make it")
    return ToolsRoot(target)


def has_tools(root: Path) -> bool:
    """Return whether the folder is a whole tools root with the packages that this version needs."""
    mark = root / _MARK
    return mark.is_file() and mark.read_text() == _key()


def mark_tools(root: Path) -> None:
    """Mark the folder as a whole tools root."""
    (root / _MARK).write_text(_key())


def debootstrap(
    settings: Settings,
    suite: str,
    packages: tuple[str, ...],
    target: Path,
    *extra: str,
    epoch: int = 0,
    repository: Path | None = None,
) -> None:
    """Make a root of Debian `suite` with `packages` in the folder `target` by mmdebstrap.

    With a `repository`, a local one whose bytes were checked, nothing else serves and there is no network. Without one no mirror is
    named: mmdebstrap's own default for the suite serves, and the .debs are cached. Raises `ToolError`.
    """
    debs = settings.cache_dir / "debs" / suite
    debs.mkdir(parents=True, exist_ok=True)
    taken = (
        '--setup-hook=mkdir -p "$1"/var/cache/apt/archives/',
        f"--setup-hook=sync-in {debs} /var/cache/apt/archives/",
    )
    kept = (f"--customize-hook=sync-out /var/cache/apt/archives {debs}",)
    sources = () if repository is None else (f"deb [trusted=yes] copy:{repository} {suite} main",)
    target.parent.mkdir(parents=True, exist_ok=True)
    process.run(
        [
            *process.DIES_WITH_US,
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(packages)}",
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=Apt::Install-Recommends "false"',
            '--aptopt=Acquire::Retries "3"',
            *[f"--dpkgopt=path-{rule}" for rule in PATH_RULES],
            "--dpkgopt=force-unsafe-io",
            "--skip=essential/unlink,download/empty",
            *(() if repository else taken),
            *extra,
            *(() if repository else kept),
            suite,
            str(target),
            *sources,
        ],
        timeout_s=1800,
        # No initramfs by the kernel's hook (/etc/kernel/postinst.d/initramfs-tools reads this): a bake makes its own, which is shipped.
        env={"SOURCE_DATE_EPOCH": str(epoch), "INITRD": "No"},
    )


def _key() -> str:
    return hashlib.sha256("\n".join((SUITE, *PACKAGES)).encode()).hexdigest()
