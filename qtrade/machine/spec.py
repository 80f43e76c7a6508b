"""What a QEMU machine consists of, as plain data. Paths are absolute; nothing here touches the disk."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Firmware(StrEnum):
    """What runs before the boot loader."""

    BIOS = "bios"
    UEFI = "uefi"


class DiskFormat(StrEnum):
    """How a disk's file is laid out."""

    RAW = "raw"
    QCOW2 = "qcow2"


class DiskInterface(StrEnum):
    """What the guest sees a disk as."""

    VIRTIO = "virtio"
    NVME = "nvme"
    SCSI = "scsi"


class OnReset(StrEnum):
    """What QEMU does when the guest resets itself."""

    RESET = "reset"
    PAUSE = "pause"


@dataclass(frozen=True)
class Disk:
    """One disk. `wwn` is 16 hex digits and needs SCSI. With `is_volatile`, flushes end in the page cache outside."""

    path: Path
    serial: str
    format: DiskFormat = DiskFormat.RAW
    interface: DiskInterface = DiskInterface.VIRTIO
    wwn: str | None = None
    boot_index: int | None = None
    is_read_only: bool = False
    is_volatile: bool = False


@dataclass(frozen=True)
class PortForward:
    """A TCP port of 127.0.0.1 that leads to a port of the guest."""

    host_port: int
    guest_port: int


@dataclass(frozen=True)
class UserNetwork:
    """QEMU's own network (10.0.2.0/24, DHCP, no privileges). `boot_file`: the URL that DHCP gives for netboot."""

    forwards: tuple[PortForward, ...] = ()
    boot_file: str | None = None


@dataclass(frozen=True)
class TapNetwork:
    """A tap that exists already, in the network namespace `netns` (None: the one of the caller). Needs root."""

    ifname: str
    netns: str | None = None


@dataclass(frozen=True)
class Nic:
    """The one network card. One that is not bootable has no boot ROM, which takes seconds of each start."""

    mac: str
    network: UserNetwork | TapNetwork
    boot_index: int | None = None
    is_bootable: bool = True


@dataclass(frozen=True)
class Cdrom:
    """A CD drive, empty when `path` is None."""

    path: Path | None = None
    boot_index: int | None = None


@dataclass(frozen=True)
class DirectBoot:
    """A kernel that QEMU loads itself, past the disks."""

    kernel: Path
    initrd: Path | None = None
    append: str = ""


@dataclass(frozen=True)
class MachineSpec:
    """A machine. The serial console is appended to `console`; `uefi_vars` is a writable copy, needed by UEFI only.

    With `has_uefi_pxe`, UEFI tries PXE before it boots over HTTP.
    """

    name: str
    console: Path
    memory_mib: int = 1024
    cpus: int = 2
    firmware: Firmware = Firmware.BIOS
    uefi_vars: Path | None = None
    uuid: str | None = None
    serial: str | None = None
    disks: tuple[Disk, ...] = ()
    nic: Nic | None = None
    cdrom: Cdrom | None = None
    direct_boot: DirectBoot | None = None
    has_watchdog: bool = True
    has_uefi_pxe: bool = False
    on_reset: OnReset = OnReset.RESET
