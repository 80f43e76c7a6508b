"""A stock Debian with sshd, as providers have it: live in memory (their rescue system), and on a disk (their installation).

Real Debian packages and systemd; nothing of qtrade is in it, not even Python. Made once and kept.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from flash.agent import bios
from flash.agent.kexec import pack_files
from qtrade import process
from qtrade.settings import Settings
from qtrade.toolsroot import SUITE, ToolsRoot, debootstrap, open_tools

_PACKAGES = ("systemd-sysv", "udev", "kmod", "openssh-server", "sudo", "iproute2", "linux-image-amd64")
_MODULES = (
    "arch", "crypto", "lib", "net/core", "net/packet", "drivers/virtio", "drivers/block/virtio_blk*", "drivers/block/loop*",
    "drivers/net/virtio_net*", "drivers/net/net_failover*",
    "drivers/char/hw_random", "fs/ext4", "fs/jbd2", "fs/mbcache*", "fs/fat", "fs/nls",
    "fs/erofs", "fs/netfs", "fs/overlayfs", "fs/isofs",
)  # fmt: skip
_NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n"
_SETUP_UNIT = (
    "[Unit]\nBefore=ssh.service\n"
    "[Service]\nType=oneshot\nExecStart=/usr/local/sbin/setup\n"
    "[Install]\nWantedBy=multi-user.target\n"
)
_SETUP = (
    "#!/bin/sh\nssh-keygen -A\n[ ! -e /setup/password ] || chpasswd </setup/password\n"
    "for user in root debian; do\n"
    "  home=$(getent passwd $user | cut -d: -f6)\n  mkdir -p $home/.ssh\n"
    "  [ ! -e /setup/keys ] || cp /setup/keys $home/.ssh/authorized_keys\n"
    "  chmod -R go= $home/.ssh\n  chown -R $user: $home/.ssh\ndone\n"
)
# Live, the archive is the root; with stock=disk it mounts the one on the disk, as any Debian's initrd does.
_INIT = """#!/bin/sh
mount -t proc proc /proc
case "$(cat /proc/cmdline)" in
*stock=disk*)
    mount -t devtmpfs dev /dev
    mount -t sysfs sys /sys
    modprobe -a virtio_pci virtio_blk ext4
    for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda2 ] && break; sleep 1; done
    mount -t ext4 /dev/vda2 /mnt
    exec switch_root /mnt /sbin/init
    ;;
esac
exec /sbin/init
"""
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
)
_GRUB_MODULES = ("part_gpt", "ext2", "normal", "linux", "biosdisk", "serial", "terminal", "test")
ARGUMENTS = "console=ttyS0,115200n8 panic=10 quiet"


@dataclass(frozen=True)
class StockDebian:
    """Its kernel, its archive and its root folder."""

    kernel: Path
    initrd: Path
    root: Path


def ensure_stock_debian(settings: Settings) -> StockDebian:
    """Return the system, made first if there is none (about a minute)."""
    folder = settings.cache_dir / "stock-debian"
    made = StockDebian(folder / "kernel", folder / "initrd", folder / "root")
    if made.initrd.is_file():
        return made
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rules = [f"--dpkgopt=path-include=/usr/lib/modules/*/kernel/{name}/*" for name in _MODULES]
    rules += [f"--dpkgopt=path-include=/usr/lib/modules/*/kernel/{name}" for name in _MODULES]
    debootstrap(settings, SUITE, _PACKAGES, made.root, "--dpkgopt=path-exclude=/usr/lib/modules/*/kernel/*", *rules)
    _settle(made.root)
    shutil.copyfile(next((made.root / "boot").glob("vmlinuz-*")), made.kernel)
    shutil.rmtree(made.root / "boot")
    (made.root / "boot").mkdir()
    tools = open_tools(settings)
    names = [path.relative_to(made.root) for path in sorted(made.root.rglob("*"))]
    plain = folder / "plain"
    listed = b"\0".join(str(name).encode() for name in names)
    tools.run("cpio", "--quiet", "-o", "-H", "newc", "--null", "-O", plain, stdin=listed, cwd=made.root)
    tools.run("zstd", "-q", "-3", plain, "-o", folder / "packed")
    plain.unlink()
    (folder / "packed").replace(made.initrd)
    return made


def setup_archive(*, keys: tuple[str, ...] = (), password: str | None = None) -> bytes:
    """Return the archive that is handed over with the initrd: who may log in to the live system."""
    files = {"setup/keys": "".join(f"{key}\n" for key in keys).encode()}
    if password:
        files["setup/password"] = f"root:{password}\n".encode()
    return pack_files(files)


def install_on(stock: StockDebian, settings: Settings, disk: Path, *, hostname: str, keys: tuple[str, ...]) -> None:
    """Put the system on a disk, in place of all that was there: GPT, GRUB for BIOS, a root of 1.5 GiB."""
    tools = open_tools(settings)
    work = settings.cache_dir / "stock-debian" / f"install-{disk.parent.name}"
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    work.mkdir()
    # Owners too: sshd asks who owns the home folder.
    process.run(["cp", "-a", stock.root, root])
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    (root / "setup").mkdir()
    (root / "setup/keys").write_text("".join(f"{key}\n" for key in keys))
    (root / "etc/hostname").write_text(f"{hostname}\n")
    shutil.copyfile(stock.kernel, root / "boot/kernel")
    shutil.copyfile(stock.initrd, root / "boot/initrd")
    (root / "boot/grub").mkdir()
    entry = f"linux /boot/kernel {ARGUMENTS} stock=disk\ninitrd /boot/initrd\nboot\n"
    (root / "boot/grub/grub.cfg").write_text(f"serial --unit=0 --speed=115200\nterminal_output serial\n{entry}")
    size = disk.stat().st_size
    with disk.open("wb") as file:
        file.truncate(size)
    table = "label: gpt\nstart=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649\nstart=2MiB, size=1536MiB, type=L\n"
    tools.run("sfdisk", "-q", disk, stdin=table.encode())
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", root, "-E", f"offset={2 << 20}", disk, "1536M")
    _install_grub(tools, work, disk)
    shutil.rmtree(work)


def _install_grub(tools: ToolsRoot, work: Path, disk: Path) -> None:
    modules, core = tools.root / "usr/lib/grub/i386-pc", work / "core.img"
    options = ("-O", "i386-pc", "-d", modules, "-p", "(,gpt2)/boot/grub", "-o", core)
    tools.run("grub-mkimage", *options, *_GRUB_MODULES)
    lba = (1 << 20) // 512
    with disk.open("r+b") as file:
        kept = file.read(512)
        boot = bios.patch_boot((modules / "boot.img").read_bytes(), lba)
        file.seek(0)
        # The table's part of the first sector stays.
        file.write(boot[:440] + kept[440:])
        file.seek(1 << 20)
        file.write(bios.patch_core(core.read_bytes(), lba))


def _settle(root: Path) -> None:
    files = {
        "etc/systemd/network/10-all.network": (_NETWORK, 0o644),
        "etc/systemd/system/setup.service": (_SETUP_UNIT, 0o644),
        "usr/local/sbin/setup": (_SETUP, 0o755),
        "etc/ssh/sshd_config.d/10-root.conf": ("PermitRootLogin yes\nUseDNS no\n", 0o644),
        "etc/hostname": ("rescue\n", 0o644),
        "etc/sudoers.d/debian": ("debian ALL=(ALL) NOPASSWD: ALL\n", 0o440),
        "init": (_INIT, 0o755),
    }
    for name, (text, mode) in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    process.run(["chroot", root, "useradd", "-m", "-s", "/bin/sh", "debian"])
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for unit in _MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    process.run(["systemctl", f"--root={root}", "enable", "systemd-networkd.service", "setup.service", "ssh.service"])
