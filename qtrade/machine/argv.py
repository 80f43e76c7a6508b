"""From a machine's description to QEMU's command line: pure functions."""

from pathlib import Path
from typing import assert_never

from qtrade.errors import BadInput
from qtrade.machine.spec import (
    Cdrom,
    DirectBoot,
    Disk,
    DiskInterface,
    Firmware,
    MachineSpec,
    Nic,
    OnReset,
    TapNetwork,
    UserNetwork,
)

GUEST_ADDRESS = "10.0.2.15"
GATEWAY = "10.0.2.2"
GUEST_ADDRESS_V6 = "fd42:716c:6162::15"
GATEWAY_V6 = "fd42:716c:6162::2"
PREFIX_V6 = "fd42:716c:6162::"
QMP_SOCKET = "qmp.sock"
CD_DEVICE = "cd"
_UEFI_CODE = "OVMF/OVMF_CODE_4M.fd"


def build_argv(spec: MachineSpec, *, accelerator: tuple[str, ...], share: Path) -> list[str]:
    """Return QEMU's arguments, without the program's own name.

    `accelerator` is what `probe_accelerator` answered, `share` the /usr/share with qemu/, seabios/ and OVMF/.
    The QMP socket is relative to the working directory, as socket paths may have 107 bytes only.
    Raises `BadInput` when the parts do not fit together.
    """
    args = [
        *("-name", spec.name),
        *("-L", str(share / "qemu"), "-L", str(share / "seabios")),
        *("-no-user-config", "-nodefaults", "-display", "none"),
        # Without graphics, SeaBIOS and iPXE write to the serial console, where the lab's log sees them.
        *("-machine", "q35,graphics=off"),
        *accelerator,
        *("-m", f"{spec.memory_mib}M", "-smp", str(spec.cpus)),
        *("-rtc", "base=utc", "-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={_escape(spec.console)},append=on", "-serial", "chardev:console"),
        *("-qmp", f"unix:{QMP_SOCKET},server=on,wait=off"),
        *_identity(spec),
        *_firmware(spec, share),
        *(["-device", "virtio-scsi-pci,id=scsi"] if _has_scsi(spec) else []),
    ]
    for number, disk in enumerate(spec.disks):
        args += _disk(disk, f"disk{number}")
    if spec.nic is not None:
        # UEFI boots over HTTP by itself, and past the iPXE of the card; BIOS knows nothing but the card's.
        has_rom = spec.nic.is_bootable and spec.firmware is not Firmware.UEFI
        args += _nic(spec.nic, "" if has_rom else ",romfile=")
    if spec.cdrom is not None:
        args += _cdrom(spec.cdrom)
    if spec.direct_boot is not None:
        args += _direct_boot(spec.direct_boot)
    if spec.has_watchdog:
        args += ["-device", "i6300esb", "-action", "watchdog=reset"]
    if spec.on_reset is OnReset.PAUSE:
        args += ["-action", "reboot=shutdown,shutdown=pause"]
    return args


def _identity(spec: MachineSpec) -> list[str]:
    args = ["-uuid", spec.uuid] if spec.uuid else []
    if spec.serial:
        args += ["-smbios", f"type=1,manufacturer=qtrade,product=lab,serial={_escape(spec.serial)}"]
    return args


def _firmware(spec: MachineSpec, share: Path) -> list[str]:
    match spec.firmware:
        case Firmware.BIOS:
            return []
        case Firmware.UEFI:
            if spec.uefi_vars is None:
                raise BadInput(f"machine {spec.name}: UEFI needs a file for its variables")
            code = _escape(share / _UEFI_CODE)
            return [
                *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
                *("-drive", f"if=pflash,unit=1,format=raw,file={_escape(spec.uefi_vars)}"),
                # PXE would be tried before HTTP, and where DHCP names no TFTP server that is minutes for nothing.
                *("-fw_cfg", f"name=opt/org.tianocore/IPv4PXESupport,string={'y' if spec.has_uefi_pxe else 'n'}"),
                *("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"),
            ]
        case _:
            assert_never(spec.firmware)


def _has_scsi(spec: MachineSpec) -> bool:
    return any(disk.interface is DiskInterface.SCSI for disk in spec.disks)


def _disk(disk: Disk, name: str) -> list[str]:
    if disk.wwn is not None and disk.interface is not DiskInterface.SCSI:
        raise BadInput(f"disk {disk.serial}: only a SCSI disk can have a WWN")
    access = "readonly=on" if disk.is_read_only else "discard=unmap,detect-zeroes=unmap"
    cache = "unsafe" if disk.is_volatile else "writeback"
    drive = f"if=none,id={name},format={disk.format},cache={cache},{access},file={_escape(disk.path)}"
    return ["-drive", drive, "-device", f"{_disk_device(disk)},drive={name},serial={_escape(disk.serial)}{_boot(disk)}"]


def _disk_device(disk: Disk) -> str:
    match disk.interface:
        case DiskInterface.VIRTIO:
            return "virtio-blk-pci"
        case DiskInterface.NVME:
            return "nvme"
        case DiskInterface.SCSI:
            return "scsi-hd,bus=scsi.0" + (f",wwn=0x{disk.wwn}" if disk.wwn else "")
        case _:
            assert_never(disk.interface)


def _nic(nic: Nic, rom: str) -> list[str]:
    device = f"virtio-net-pci,netdev=net,mac={nic.mac}{_boot(nic)}{rom}"
    match nic.network:
        case UserNetwork() as user:
            parts = [
                f"user,id=net,net=10.0.2.0/24,host={GATEWAY},dhcpstart={GUEST_ADDRESS}",
                f"ipv6-prefix={PREFIX_V6},ipv6-prefixlen=64,ipv6-host={GATEWAY_V6}",
            ]
            if user.boot_file:
                parts.append(f"bootfile={_escape(user.boot_file)}")
            parts += [
                f"hostfwd=tcp:127.0.0.1:{one.host_port}-{GUEST_ADDRESS}:{one.guest_port}" for one in user.forwards
            ]
            return ["-netdev", ",".join(parts), "-device", device]
        case TapNetwork() as tap:
            return ["-netdev", f"tap,id=net,ifname={tap.ifname},script=no,downscript=no", "-device", device]
        case _:
            assert_never(nic.network)


def _cdrom(cdrom: Cdrom) -> list[str]:
    medium = f",readonly=on,format=raw,file={_escape(cdrom.path)}" if cdrom.path else ""
    device = f"ide-cd,id={CD_DEVICE},bus=ide.0,drive=medium{_boot(cdrom)}"
    return ["-drive", f"if=none,id=medium,media=cdrom{medium}", "-device", device]


def _direct_boot(boot: DirectBoot) -> list[str]:
    args = ["-kernel", str(boot.kernel), "-append", boot.append]
    return [*args, "-initrd", str(boot.initrd)] if boot.initrd else args


def _boot(part: Disk | Nic | Cdrom) -> str:
    return "" if part.boot_index is None else f",bootindex={part.boot_index}"


def _escape(value: str | Path) -> str:
    # QEMU's option parser doubles a comma that is part of a value.
    return str(value).replace(",", ",,")
