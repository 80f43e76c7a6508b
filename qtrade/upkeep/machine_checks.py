"""What the machine must have: programs, rights, room, memory, a clock that is right."""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from qtrade import clock, process
from qtrade.errors import QtradeError
from qtrade.machine.machine import find_qemu
from qtrade.process import as_root
from qtrade.settings import Settings
from qtrade.toolsroot import has_tools, open_tools
from qtrade.upkeep import work_folders
from qtrade.upkeep.check import Check, good, missing, warning

_GIB = 1 << 30
# Debian's package -> a program of it that qtrade runs.
_PROGRAMS = {
    "mmdebstrap": ("mmdebstrap", "roots of Debian for bakes"),
    "util-linux": ("unshare", "namespaces of bakes"),
    "mount": ("mount", "layers of bakes"),
    "fdisk": ("sfdisk", "partition tables"),
    "iproute2": ("ip", "networks of bakes"),
    "gpg": ("gpg", "signed repositories"),
    "gpg-agent": ("gpg-agent", "a key of the stand-ins' repository"),
    "gpgv": ("gpgv", "signatures of packages"),
    "apt-utils": ("apt-ftparchive", "the local repository of a bake"),
    "openssh-client": ("ssh", "every host"),
    "openssl": ("openssl", "the proof without qtrade"),
}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# A bake of the lab image takes about 6 GiB of disk with its cache; a boot test and a lab host 2 GiB of memory each.
_DISK_NEEDED, _DISK_WANTED = 2 * _GIB, 12 * _GIB
_MEMORY_NEEDED, _MEMORY_WANTED = _GIB // 2, 3 * _GIB
_EMULATED = "labs and boot tests emulate the CPU, many times slower"
_UNSYNCHRONIZED = 5  # adjtimex(2): TIME_ERROR


def check_machine(settings: Settings) -> Iterator[Check]:
    """Give the checks of this machine."""
    yield from _programs()
    yield _python()
    yield _root()
    yield _kvm(settings)
    yield _room(settings)
    yield _memory(Path("/proc/meminfo").read_text())
    yield check_clock(_clock_state())
    yield from stale_mounts(settings, Path("/proc/self/mountinfo").read_text())


def _programs() -> Iterator[Check]:
    lacking = False
    for package, (program, use) in _PROGRAMS.items():
        if shutil.which(program, path=process.CLEAN_PATH) is None:
            lacking = True
            yield missing(f"package {package}", f"no {program}, for {use}", _install(package))
    if not _KEYRING.is_file():
        lacking = True
        cure = _install("debian-archive-keyring")
        yield missing("package debian-archive-keyring", "no keys of Debian's archive, for locks", cure)
    if not lacking:
        yield good("packages", f"{len(_PROGRAMS) + 1} of {len(_PROGRAMS) + 1}")
    try:
        clock.library()
    except QtradeError as error:
        yield warning("package libfaketime", f"{error.brief}: no `qtrade bake --verify`", _install("libfaketime"))
    if shutil.which("dnsmasq", path=process.CLEAN_PATH) is None:
        yield warning("package dnsmasq-base", "no dnsmasq, for hosts with `netboot.dhcp`", _install("dnsmasq-base"))


def _python() -> Check:
    own = ".".join(str(part) for part in sys.version_info[:3])
    try:
        return good("Python", f"{own}, ansible-core {version('ansible-core')}")
    except PackageNotFoundError:
        return missing("Python", f"{own}, without Ansible, which bakes", f"{sys.executable} -m pip install ansible")


def _root() -> Check:
    if os.geteuid() == 0:
        return good("root", "yes")
    return warning("root", "no: bakes and the tools root need it, flashes do not", "sudo qtrade …")


def _kvm(settings: Settings) -> Check:
    device = Path("/dev/kvm")
    if not device.exists():
        cure = f"{as_root('modprobe kvm_intel')}, or kvm_amd; or switch virtualization on in the firmware"
        return warning("KVM", f"none: {_EMULATED}", cure)
    if not os.access(device, os.R_OK | os.W_OK):
        return warning("KVM", f"no rights for it: {_EMULATED}", as_root('usermod -aG kvm "$USER", then log in anew'))
    if not has_tools(settings.tools_dir.resolve()):
        return good("KVM", f"{device}; tried when there is a tools root")
    # It opens on machines whose CPU runs no guest too.
    try:
        runs_guests = find_qemu(settings, open_tools(settings)).has_kvm
    except OSError as error:  # the state directory is another account's
        return good("KVM", f"{device}; not tried: {error.strerror}")
    if runs_guests:
        return good("KVM", f"{device}, runs a guest")
    return warning(
        "KVM", f"{device} opens and runs no guest: {_EMULATED}", "let the machine below this one allow nested guests"
    )


def _install(package: str) -> str:
    return as_root(f"apt-get install {package}")


def _room(settings: Settings) -> Check:
    folder = next(one for one in (settings.state_dir, *settings.state_dir.parents) if one.exists())
    name, free = "disk space", shutil.disk_usage(folder).free
    found = f"{free / _GIB:.1f} GiB free in {settings.state_dir}"
    cure = "qtrade gc --dry-run; qtrade images gc --dry-run; or set QTRADE_STATE_DIR to a bigger disk"
    if free < _DISK_NEEDED:
        return missing(name, found, cure)
    return (
        warning(name, f"{found}: a first bake takes up to {_DISK_WANTED // _GIB}", cure)
        if free < _DISK_WANTED
        else good(name, found)
    )


def _memory(meminfo: str) -> Check:
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    free = int(fields["MemAvailable"].split()[0]) * 1024
    found, cure = f"{free / _GIB:.1f} GiB available", "end other programs, or use a bigger machine"
    if free < _MEMORY_NEEDED:
        return missing("memory", found, cure)
    return warning("memory", found, cure) if free < _MEMORY_WANTED else good("memory", found)


def check_clock(state: int) -> Check:
    """Judge what the kernel says of its clock; signatures and leases have times in them."""
    if state == _UNSYNCHRONIZED:
        return warning("clock", "nobody keeps it right", f"{as_root('timedatectl set-ntp true')}, or install chrony")
    return good("clock", "synchronized") if state >= 0 else warning("clock", "the kernel does not say", "timedatectl")


def _clock_state() -> int:
    # `modes` is its first field: all zeros ask, and change nothing. 208 bytes on 64-bit Linux.
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))


def stale_mounts(settings: Settings, mountinfo: str) -> Iterator[Check]:
    """Give a check for each mount that a killed command left in the state directory."""
    # Commands mount there while they run; elsewhere in the state directory a disk may be mounted for good.
    found = [
        path
        for path in mounts_below(settings.state_dir, mountinfo)
        if path.relative_to(settings.state_dir).parts[0] in work_folders.ALL
    ]
    for path in found:
        yield warning("stale mounts", str(path), f"{as_root(f'umount -R {path}')}, once no `qtrade` command runs")
    if not found:
        yield good("stale mounts", "none")


def mounts_below(folder: Path, mountinfo: str) -> tuple[Path, ...]:
    """Return what is mounted below a folder, itself not counted, by the text of mountinfo (proc(5): field 5, blanks in octal)."""
    targets = (line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines() if line.strip())
    real = folder.resolve()
    below = (Path(one) for one in targets)
    return tuple(folder / one.relative_to(real) for one in below if real in one.parents)
