"""What the lines of a look at a machine mean."""

import pytest

from flash.discovery import FoundDisk, FoundNetwork, FoundNic, FoundPartition
from flash.discovery.over_ssh import parse_look, require_key
from qtrade.errors import TrustError

pytestmark = pytest.mark.unit

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1sUmcLbcNOyX6vNaAuLYHYKAQTZjMEPHw7nL9KIpLO"
LOOK = """\
disk\tnvme0n1\t7501476528\tS64GNE0R\teui.3634\t/sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/nvme/nvme0/nvme0n1\tSAMSUNG MZQL2
part\tnvme0n1\tnvme0n1p1\t1048576
part\tnvme0n1\tnvme0n1p2\t7500000000
disk\tsda\t1953525168\t  WD-9 \tnaa.5000\t/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda\tWDC
disk\tvda\t2097152\t\t\t/sys/devices/virtual/block/vda\t
nic\teno1\tAC:1F:6B:00:00:01\tup
nic\teno2\tac:1f:6b:00:00:02\tdown
firmware\tuefi
mount\tnvme0n1p2\t/
lsblk\tNAME="nvme0n1" FSTYPE="" LABEL="" PARTLABEL="" UUID=""
lsblk\tNAME="nvme0n1p1" FSTYPE="vfat" LABEL="" PARTLABEL="EFI System" UUID="AB-12"
lsblk\tNAME="nvme0n1p2" FSTYPE="ext4" LABEL="root of it" PARTLABEL="x" UUID="5e7c"
lsblk\tNAME="sda" FSTYPE="ext4" LABEL="ledger" PARTLABEL="" UUID="beef"
sudo: a password is required
"""


def test_disks_cards_and_firmware() -> None:
    machine = parse_look(LOOK, KEY)
    assert machine.disks == (
        FoundDisk(
            "nvme0n1",
            "SAMSUNG MZQL2",
            "S64GNE0R",
            "eui.3634",
            7501476528 * 512,
            "0000:41:00.0",
            (
                FoundPartition("nvme0n1p1", 1048576 * 512, "vfat", "EFI System", "AB-12"),
                FoundPartition("nvme0n1p2", 7500000000 * 512, "ext4", "root of it", "5e7c", "/"),
            ),
        ),
        FoundDisk(
            "sda",
            "WDC",
            "WD-9",
            "naa.5000",
            1953525168 * 512,
            "0000:00:17.0",
            (FoundPartition("sda", 0, "ext4", "ledger", "beef"),),
        ),
        FoundDisk("vda", size_bytes=1 << 30),
    )
    assert machine.nics == (FoundNic("eno1", "ac:1f:6b:00:00:01", is_up=True), FoundNic("eno2", "ac:1f:6b:00:00:02"))
    assert (machine.source, machine.firmware, machine.host_key) == ("ssh", "uefi", KEY)


def of_network(*lines: str) -> FoundNetwork:
    return parse_look("".join(f"{line}\n" for line in lines)).network


STATIC = (
    "address\teno1\tAC:1F:6B:00:00:01\t192.0.2.10/24\tbrd 192.0.2.255 scope global eno1",
    "address\teno1\tAC:1F:6B:00:00:01\t2001:db8::10/64\tscope global",
    "address\teno2\tac:1f:6b:00:00:02\t10.0.0.2/24\tscope global eno2",
    "route\tdefault via 192.0.2.1 dev eno1 onlink",
    "route\tdefault via fe80::1 dev eno1 metric 1024",
    "dns\t127.0.0.53",
    "dns\t192.0.2.53",
)


def test_the_network_is_that_of_the_card_with_the_way_out() -> None:
    assert of_network(*STATIC) == FoundNetwork(
        "ac:1f:6b:00:00:01", ("192.0.2.10/24", "2001:db8::10/64"), ("192.0.2.1", "fe80::1"), ("192.0.2.53",)
    )


def test_what_dhcp_gave_is_left_to_dhcp() -> None:
    given = (f"{STATIC[0]} dynamic", f"{STATIC[1]} dynamic mngtmpaddr", *STATIC[2:])
    assert of_network(*given) == FoundNetwork("ac:1f:6b:00:00:01")


@pytest.mark.parametrize("lines", [(), STATIC[:3], STATIC[3:], ("route\tdefault",), ("address\teno1",)])
def test_without_addresses_or_a_way_out_nothing_is_known(lines) -> None:
    assert of_network(*lines) == FoundNetwork()


def test_a_line_tells_a_person_which_disk_it_is() -> None:
    first, second, third = parse_look(LOOK).disks
    assert first.describe() == (
        "nvme0n1  SAMSUNG MZQL2  3840.8 GB  serial S64GNE0R, wwid eui.3634, 0000:41:00.0  "
        "[nvme0n1p1 vfat EFI System 0.5 GB; nvme0n1p2 ext4 root of it 3840.0 GB on /]"
    )
    assert (first.is_in_use, second.is_in_use, first.fs_uuid, second.fs_uuid) == (True, False, "", "beef")
    assert third.describe() == "vda  no model  1.1 GB  serial -, wwid -, no PCI path  [nothing known on it]"
    assert FoundDisk("Drive 1", knows_partitions=False).describe().endswith("[partitions unknown]")


def test_a_shell_that_is_no_linux_shows_nothing() -> None:
    machine = parse_look("Welcome to the switch\n")
    assert (machine.disks, machine.nics, machine.firmware) == ((), (), "")


def test_only_the_expected_host_key_is_taken() -> None:
    shown = "SHA256:zb4oRmoSEEOBVYAzOPOwAcqoCyq6UAmMaUN24LPVVHI"
    with pytest.raises(TrustError, match="another SSH host key") as caught:
        require_key("SHA256:other", KEY, "rpc-1")
    told = caught.value.details.split()[-1]
    require_key(f" {told}\n", KEY, "rpc-1")
    assert told.startswith("SHA256:")
    assert len(told) == len(shown)
