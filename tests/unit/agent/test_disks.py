"""Disk binding over a fake sysfs and disks that are files."""

import uuid

import pytest

from flash.agent import disks, ondisk, partition, protect
from flash.agent.errors import AgentError
from flash.agent.job import DiskId
from tests.fakes.agent_disks import SIZE, Machine, poke, write_ext4, write_gpt

pytestmark = pytest.mark.unit


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_disk_is_described_from_sysfs(machine):
    machine.add("nvme0n1", serial="S1", wwid="eui.01", pci="0000:41:00.0", partitions=("nvme0n1p1",))
    (found,) = machine.discover()
    assert (found.serial, found.wwid, found.pci_path, found.size_bytes) == ("S1", "eui.01", "0000:41:00.0", SIZE)
    assert found.partitions == ("nvme0n1p1",)


def test_scsi_serial_is_read_from_its_page(machine):
    machine.add("sda")
    page = machine.root / "sys/block/sda/device/vpd_pg80"
    page.write_bytes(b"\0\x80\0\x08  WD1234")
    assert machine.discover()[0].serial == "WD1234"


def test_loops_and_empty_drives_are_no_disks(machine):
    for name in ("loop0", "sr0", "dm-0", "md127", "zram0"):
        machine.add(name, serial="x")
    machine.add("sdb", serial="x", size=0)
    assert machine.discover() == []


def test_all_given_identifiers_must_match(machine):
    machine.add("vda", serial="OS1", wwid="w1", pci="0000:00:04.0")
    machine.add("vdb", serial="OS2", wwid="w2", pci="0000:00:05.0")
    found = machine.discover()
    assert disks.bind_os_disk(found, DiskId(serial="OS1", size_bytes=SIZE)).name == "vda"
    assert disks.bind_os_disk(found, DiskId(wwid="w2", pci_path="0000:00:05.0")).name == "vdb"
    with pytest.raises(AgentError, match=r"0 disks have serial OS1, wwid w2.*the machine has: vda .*; vdb") as caught:
        disks.bind_os_disk(found, DiskId(serial="OS1", wwid="w2"))
    assert caught.value.code == "disk-not-found"


def test_two_matches_are_refused(machine):
    machine.add("vda", serial="SAME", pci="0000:00:04.0")
    machine.add("vdb", serial="SAME", pci="0000:00:05.0")
    with pytest.raises(AgentError) as caught:
        disks.bind_os_disk(machine.discover(), DiskId(serial="SAME", size_bytes=SIZE))
    assert caught.value.code == "disk-ambiguous"


def test_part_of_a_serial_does_not_match(machine):
    machine.add("vda", serial="OS12")
    with pytest.raises(AgentError):
        disks.bind_os_disk(machine.discover(), DiskId(serial="OS1", size_bytes=SIZE))


def test_busy_disk_is_refused(machine):
    machine.add("vda", serial="OS1", partitions=("vda1",))
    found = machine.discover()
    with pytest.raises(AgentError, match="vda1 on /mnt"):
        disks.require_usable(found[0], found, {"vda1": "/mnt"})
    machine.add("vdb", serial="OS2", holders=("md127",))
    found = machine.discover()
    with pytest.raises(AgentError, match="in use: md127"):
        disks.require_usable(found[1], found, {})


@pytest.mark.parametrize(
    ("offset", "magic", "kind"),
    [
        (4096, b"\xfc\x4e\x2b\xa9", "md"),
        (0, b"\xfc\x4e\x2b\xa9", "md"),
        (SIZE - 8192, b"\xfc\x4e\x2b\xa9", "md"),
        (SIZE - 65536, b"\xfc\x4e\x2b\xa9", "md"),
        (512, b"LABELONE", "lvm"),
        (0, b"LUKS\xba\xbe", "luks"),
        (4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"), "bcache"),
        (131072 + 5 * 1024, (0x00BAB10C).to_bytes(8, "little"), "zfs"),
        (131072, (0x00BAB10C).to_bytes(8, "big"), "zfs"),
        (SIZE - 1024, b"Intel Raid ISM Cfg Sig. ", "imsm"),
        (SIZE - 512, b"\xde\x11\xde\x11", "ddf"),
    ],
)
@pytest.mark.parametrize("in_partition", [False, True])
def test_members_of_pools_are_refused(machine, offset, magic, kind, in_partition):
    path = machine.add("vda", serial="OS1")
    if in_partition:
        write_gpt(path, "data")
        offset = ondisk.MIB + (offset if offset < SIZE // 2 else offset - SIZE + ondisk.MIB)
    poke(path, offset, magic)
    found = machine.discover()
    with pytest.raises(AgentError, match=f"is part of: {kind}"):
        disks.require_usable(found[0], found, {})


def test_labels_of_another_installation_are_refused(machine):
    machine.add("vda", serial="OS1")
    write_gpt(machine.add("vdb", serial="OLD"), *disks.LABELS)
    found = machine.discover()
    with pytest.raises(AgentError, match=r"vdb .*qtrade-esp, qtrade-state, qtrade-system as well"):
        disks.require_usable(found[0], found, {})
    disks.require_usable(found[1], found, {})


def test_our_layout_is_recognised(machine):
    write_gpt(machine.add("nvme0n1", serial="OS1"), *disks.LABELS)
    (found,) = machine.discover()
    assert found.is_ours
    assert found.partition_path("qtrade-system").name == "nvme0n1p3"
    with pytest.raises(AgentError, match="0 partitions nothing"):
        found.partition("nothing")


def test_damaged_gpt_is_no_gpt(machine):
    path = machine.add("vda")
    write_gpt(path, "x", backup=False)
    poke(path, 1024 + 40, b"\x77")
    assert machine.discover()[0].gpt is None


@pytest.mark.parametrize("torn", [512, 512 + 16, 1024 + 40])
@pytest.mark.parametrize("grown", [False, True])
def test_torn_gpt_is_read_from_its_copy_and_mended(machine, torn, grown):
    path = machine.add("vda")
    write_gpt(path, *disks.LABELS, size=SIZE - ondisk.MIB if grown else SIZE)
    with path.open("rb") as file:
        before = file.read(64 * 512)
    poke(path, torn, bytes(8))
    (found,) = machine.discover()
    assert found.is_ours
    assert found.gpt.is_torn
    partition.mend_table(found)
    with path.open("rb") as file:
        after = file.read(34 * 512)
    # On a disk that grew, the header also gets a new place for its copy.
    assert after[1024:] == before[1024 : 34 * 512]
    assert grown or after == before[: 34 * 512]
    (mended,) = machine.discover()
    assert not mended.gpt.is_torn
    partition.check_tables(mended)
    assert mended.gpt.partitions == found.gpt.partitions


def test_the_protective_mbr_is_mended_too(machine):
    path = machine.add("vda")
    write_gpt(path, *disks.LABELS)
    poke(path, 0, b"CODE" + bytes(1020))
    partition.mend_table(machine.discover()[0])
    with path.open("rb") as file:
        first = file.read(512)
    assert (first[:4], first[450], first[510:]) == (b"CODE", 0xEE, b"\x55\xaa")


def test_namespaces_with_one_serial_are_told_apart_in_a_proof(machine):
    for number in (1, 2, 3):
        machine.add(f"nvme0n{number}", serial="S1", wwid=f"eui.0{number}" if number < 3 else "")
    assert list(protect.by_name(machine.discover())) == ["S1", "S1 eui.02", "S1 nvme0n3"]


def test_protected_disk_must_be_there_once_and_be_another(machine):
    path = machine.add("vda", serial="OS1")
    write_ext4(machine.add("vdb", serial="LEDGER"), 0, 7)
    found = machine.discover()
    ledger = DiskId(serial="LEDGER", fs_uuid=str(uuid.UUID(int=7)))
    assert [one.name for one in disks.bind_guarded(found, [ledger], found[0], "protected")] == ["vdb"]
    for wanted, code in (
        (DiskId(serial="GONE"), "protected-missing"),
        (DiskId(serial="LEDGER", fs_uuid=str(uuid.UUID(int=8))), "protected-missing"),
        (DiskId(size_bytes=SIZE), "protected-ambiguous"),
        (DiskId(serial="OS1"), "protected-is-os-disk"),
    ):
        with pytest.raises(AgentError) as caught:
            disks.bind_guarded(found, [wanted], found[0], "protected")
        assert caught.value.code == code
    write_ext4(path, 0, 7)
    found = machine.discover()
    with pytest.raises(AgentError, match="as OS disk and as protected"):
        disks.bind_guarded(found, [DiskId(serial="LEDGER", fs_uuid=str(uuid.UUID(int=7)))], found[0], "protected")


@pytest.mark.parametrize("offset", [0, 600, SIZE - 1, ondisk.MIB + 5000])
def test_fingerprint_sees_changes_where_it_matters(machine, offset):
    path = machine.add("vdb", serial="LEDGER")
    write_gpt(path, "ledger")
    (before,) = machine.discover()
    first = protect.fingerprint(before)
    assert protect.fingerprint(before) == first
    poke(path, offset, b"\x5a")
    assert protect.fingerprint(before) != first


def test_compare_names_the_disk_that_changed():
    assert protect.compare({"A": "1"}, {"A": "1"}) == [{"serial": "A", "before": "1", "after": "1"}]
    with pytest.raises(AgentError, match="differ from before: B, C"):
        protect.compare({"A": "1", "B": "1", "C": "1"}, {"A": "1", "B": "2"})


def test_filesystem_uuids_are_read(machine):
    path = machine.add("vda")
    poke(path, 0, b"XFSB")
    poke(path, 32, uuid.UUID(int=3).bytes)
    assert machine.discover()[0].fs_uuids == (str(uuid.UUID(int=3)),)
    poke(path, 0, bytes(64))
    poke(path, 82, b"FAT32")
    poke(path, 67, bytes.fromhex("efbeadde"))
    assert machine.discover()[0].fs_uuids == ("DEAD-BEEF",)
