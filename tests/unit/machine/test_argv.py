"""A machine's description becomes exactly the command line that was meant."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from qtrade.errors import BadInput
from qtrade.machine.accel import TCG
from qtrade.machine.argv import build_argv
from qtrade.machine.spec import (
    Cdrom,
    DirectBoot,
    Disk,
    DiskFormat,
    DiskInterface,
    Firmware,
    MachineSpec,
    Nic,
    OnReset,
    PortForward,
    TapNetwork,
    UserNetwork,
)

pytestmark = pytest.mark.unit

SPEC = MachineSpec(name="lab-1", console=Path("/s/console.log"), has_watchdog=False)


def argv(spec: MachineSpec) -> list[str]:
    return build_argv(spec, accelerator=TCG, share=Path("/tools/usr/share"))


def values(args: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(args) if name == option]


def test_smallest_machine_whole() -> None:
    assert argv(SPEC) == [
        *("-name", "lab-1", "-L", "/tools/usr/share/qemu", "-L", "/tools/usr/share/seabios"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-machine", "q35,graphics=off"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024M", "-smp", "2"),
        *("-rtc", "base=utc", "-device", "virtio-rng-pci"),
        *("-chardev", "file,id=console,path=/s/console.log,append=on", "-serial", "chardev:console"),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
    ]


@pytest.mark.parametrize(
    ("interface", "wwn", "device"),
    [
        (DiskInterface.VIRTIO, None, "virtio-blk-pci,drive=disk0,serial=S1,bootindex=1"),
        (DiskInterface.NVME, None, "nvme,drive=disk0,serial=S1,bootindex=1"),
        (DiskInterface.SCSI, None, "scsi-hd,bus=scsi.0,drive=disk0,serial=S1,bootindex=1"),
        (
            DiskInterface.SCSI,
            "5000c50015ea71ac",
            "scsi-hd,bus=scsi.0,wwn=0x5000c50015ea71ac,drive=disk0,serial=S1,bootindex=1",
        ),
    ],
)
def test_disk_interfaces(interface: DiskInterface, wwn: str | None, device: str) -> None:
    disk = Disk(Path("/s/os.raw"), "S1", interface=interface, wwn=wwn, boot_index=1)
    args = argv(replace(SPEC, disks=(disk,)))
    assert device in values(args, "-device")
    assert ("virtio-scsi-pci,id=scsi" in values(args, "-device")) == (interface is DiskInterface.SCSI)


def test_disk_access_and_cache() -> None:
    disks = (
        Disk(Path("/s/a"), "A", is_read_only=True, format=DiskFormat.QCOW2),
        Disk(Path("/s/b,c"), "B", is_volatile=True),
    )
    assert values(argv(replace(SPEC, disks=disks)), "-drive") == [
        "if=none,id=disk0,format=qcow2,cache=writeback,readonly=on,file=/s/a",
        "if=none,id=disk1,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/s/b,,c",
    ]


def test_wwn_of_a_virtio_disk_is_refused() -> None:
    with pytest.raises(BadInput, match="only a SCSI disk"):
        argv(replace(SPEC, disks=(Disk(Path("/s/a"), "A", wwn="5000c50015ea71ac"),)))


def test_user_network() -> None:
    network = UserNetwork((PortForward(4022, 22),), "http://10.0.2.2:8000/boot.ipxe")
    args = argv(replace(SPEC, nic=Nic("52:54:00:00:00:01", network, 2)))
    assert values(args, "-netdev") == [
        (
            "user,id=net,net=10.0.2.0/24,host=10.0.2.2,dhcpstart=10.0.2.15,"
            "ipv6-prefix=fd42:716c:6162::,ipv6-prefixlen=64,ipv6-host=fd42:716c:6162::2,"
            "bootfile=http://10.0.2.2:8000/boot.ipxe,hostfwd=tcp:127.0.0.1:4022-10.0.2.15:22"
        )
    ]
    assert "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,bootindex=2" in values(args, "-device")


def test_tap_network_has_the_same_card() -> None:
    args = argv(replace(SPEC, nic=Nic("52:54:00:00:00:01", TapNetwork("tap0", "scan"), 2)))
    assert values(args, "-netdev") == ["tap,id=net,ifname=tap0,script=no,downscript=no"]
    assert "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,bootindex=2" in values(args, "-device")


def test_uefi_has_its_own_variables() -> None:
    args = argv(replace(SPEC, firmware=Firmware.UEFI, uefi_vars=Path("/s/vars.fd")))
    assert values(args, "-drive") == [
        "if=pflash,unit=0,format=raw,readonly=on,file=/tools/usr/share/OVMF/OVMF_CODE_4M.fd",
        "if=pflash,unit=1,format=raw,file=/s/vars.fd",
    ]


def test_uefi_boots_over_http_by_itself() -> None:
    nic = Nic("52:54:00:00:00:01", UserNetwork(), 1)
    args = argv(replace(SPEC, firmware=Firmware.UEFI, uefi_vars=Path("/s/vars.fd"), nic=nic))
    assert "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,bootindex=1,romfile=" in values(args, "-device")
    assert values(args, "-fw_cfg") == [
        "name=opt/org.tianocore/IPv4PXESupport,string=n",
        "name=opt/org.tianocore/IPv6PXESupport,string=n",
    ]


def test_a_card_that_boots_nothing_has_no_rom() -> None:
    args = argv(replace(SPEC, nic=Nic("52:54:00:00:00:01", UserNetwork(), is_bootable=False)))
    assert "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,romfile=" in values(args, "-device")


def test_uefi_without_variables_is_refused() -> None:
    with pytest.raises(BadInput, match="UEFI needs"):
        argv(replace(SPEC, firmware=Firmware.UEFI))


def test_cd_drive_with_and_without_a_disc() -> None:
    assert values(argv(replace(SPEC, cdrom=Cdrom(None, 3))), "-drive") == ["if=none,id=medium,media=cdrom"]
    args = argv(replace(SPEC, cdrom=Cdrom(Path("/s/m.iso"), 1)))
    assert values(args, "-drive") == ["if=none,id=medium,media=cdrom,readonly=on,format=raw,file=/s/m.iso"]
    assert "ide-cd,id=cd,bus=ide.0,drive=medium,bootindex=1" in values(args, "-device")


def test_direct_boot_watchdog_and_identity() -> None:
    boot = DirectBoot(Path("/k"), Path("/i"), "console=ttyS0 ro")
    uuid = "4adf8ef6-6781-5be6-a8b1-462bb1d067e0"
    args = argv(replace(SPEC, direct_boot=boot, has_watchdog=True, uuid=uuid, serial="lab-1"))
    assert (values(args, "-kernel"), values(args, "-initrd"), values(args, "-append")) == (
        ["/k"],
        ["/i"],
        ["console=ttyS0 ro"],
    )
    assert "i6300esb" in values(args, "-device")
    assert values(args, "-action") == ["watchdog=reset"]
    assert values(args, "-uuid") == [uuid]


def test_pause_on_reset() -> None:
    assert values(argv(replace(SPEC, on_reset=OnReset.PAUSE)), "-action") == ["reboot=shutdown,shutdown=pause"]
