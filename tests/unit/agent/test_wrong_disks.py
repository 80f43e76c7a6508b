"""No wrong disk is written: a matrix of machines through all checks of the installer and its first write, with disks that are files.

Every case is refused with the code that fits, or the one right disk is partitioned. All other disks keep their SHA-256.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass, field

import pytest

from flash.agent import disks, install, ondisk, partition, protect
from flash.agent import trust as agent_trust
from flash.agent.errors import AgentError
from flash.agent.job import parse_job
from flash.agent.report import Reporter
from flash.netboot.delivery import Delivery, blobs_in
from flash.netboot.server import FlashServer
from tests.fakes.agent_disks import Machine, digest_disk, poke, write_ext4, write_gpt
from tests.unit.agent.conftest import ImageMaker

pytestmark = pytest.mark.unit

SIZE = 320 * ondisk.MIB
NOW = 1_800_000_100
PCI = {"os": "0000:01:00.0", "ledger": "0000:02:00.0", "data": "0000:03:00.0"}
NAMES = {
    "virtio": ("vda", "vdb", "vdc"),
    "scsi": ("sda", "sdb", "sdc"),
    "nvme": ("nvme0n1", "nvme1n1", "nvme2n1"),
    "namespaces": ("nvme0n1", "nvme0n2", "nvme0n3"),
}
BINDINGS = {
    "serial+size": ("serial", "size_bytes"),
    "wwid+size": ("wwid", "size_bytes"),
    "serial+wwid": ("serial", "wwid"),
    "wwid+pci": ("wwid", "pci_path"),
    "all": ("serial", "wwid", "size_bytes", "pci_path"),
}


@dataclass
class Room:
    """A machine with an OS disk, a ledger and a data disk, and the installer's job for it."""

    machine: Machine
    job_fields: dict[str, object]
    trust: agent_trust.TrustSet
    facts: dict[str, dict[str, object]] = field(default_factory=dict)
    read_only: list[str] = field(default_factory=list)

    def fill(self, names, order=("os", "ledger", "data"), **changes):
        """Add the disks as `names` in this order; `changes` are facts by role."""
        for name, role in zip(names, order, strict=True):
            facts = {"serial": f"S-{role}", "wwid": f"eui.{role}", "pci": PCI[role], "size": SIZE}
            facts |= changes.get(role, {})
            if facts.pop("absent", False):
                continue
            path = self.machine.add(name, **facts)
            self.facts[role] = {**facts, "path": path, "name": name}
        for number, role in enumerate(("ledger", "data"), start=5):
            if role in self.facts:
                write_ext4(self.facts[role]["path"], 0, number)

    def path(self, role):
        return self.facts[role]["path"]

    def bind(self, fields=("serial", "size_bytes"), **changes):
        """Name the OS disk in the job by its facts as they should be."""
        full = {"serial": "S-os", "wwid": "eui.os", "size_bytes": SIZE, "pci_path": PCI["os"]}
        self.job_fields["os_disk"] = {name: full[name] for name in fields} | changes

    def run(self, *, writes=True):
        """Do all checks and the first write; return the role of the disk that was chosen."""
        before = {role: digest_disk(facts["path"]) for role, facts in self.facts.items()}
        chosen = None
        try:
            job = parse_job(json.dumps(self.job_fields).encode())
            plan = install.check(job, self.trust, NOW, self.machine.host, Reporter())
            chosen = next(role for role, facts in self.facts.items() if facts["name"] == plan.disk.name)
            assert sorted(self.read_only) == sorted(f["name"] for r, f in self.facts.items() if r != chosen)
            if not writes:
                pass
            elif plan.keeps_layout:
                partition.mend_table(plan.disk)
            else:
                partition.write_table(plan.disk, plan.layout)
            self.plan = plan
        finally:
            changed = {role for role, facts in self.facts.items() if digest_disk(facts["path"]) != before[role]}
            assert changed <= {chosen} - {None}, f"a wrong write to {changed}"
        return chosen

    def refused(self):
        with pytest.raises(AgentError) as caught:
            self.run()
        assert caught.value.remedy
        return caught.value.code


@pytest.fixture(scope="module")
def source(tmp_path_factory, key):
    """The address of the controller's server, which has the blobs of the image."""
    store, image = tmp_path_factory.mktemp("store"), ImageMaker(key)
    for role, data in image.blobs.items():
        (store / image.digest(role)).write_bytes(data)
    for data in (b"kernel", b"initrd"):
        (store / hashlib.sha256(data).hexdigest()).write_bytes(data)
    with FlashServer("127.0.0.1", 0) as server, server.serving(Delivery(blobs_in(store), lambda _: None)) as served:
        yield served.url


@pytest.fixture(scope="module")
def trust(make_trust, root):
    return agent_trust.open_pinned(make_trust(), root.key_id)


@pytest.fixture
def room(tmp_path, source, job_fields, trust, monkeypatch):
    fields = job_fields(
        source=source,
        report="",
        layout={"esp_mib": 33, "system_mib": 130},
        protected=[{"serial": "S-ledger"}],
        data=[{"wwid": "eui.data"}],
    )
    made = Room(Machine(tmp_path), fields, trust)
    made.bind()
    # A file cannot be made read-only by ioctl; which disks were to be is compared instead.
    monkeypatch.setattr(protect, "set_read_only", lambda all_: made.read_only.extend(one.name for one in all_))
    return made


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("order", [*itertools.permutations(("os", "ledger", "data"))], ids="-".join)
def test_disks_of_equal_size_in_any_order(room, kind, order, binding):
    """Also namespaces of one controller, which have its serial and its PCI path in common."""
    shared = {role: {"serial": "S-one", "pci": PCI["os"]} for role in order} if kind == "namespaces" else {}
    room.fill(NAMES[kind], order, **shared)
    changes = {"serial": "S-one"} if kind == "namespaces" and "serial" in BINDINGS[binding] else {}
    room.bind(BINDINGS[binding], **changes)
    if kind == "namespaces":
        room.job_fields["protected"] = [{"wwid": "eui.ledger"}]
        if binding == "serial+size":
            assert room.refused() == "disk-ambiguous"
            return
    assert room.run(writes=binding == "all") == "os"


REFUSALS = {
    "empty serial": ({"os": {"serial": ""}}, {}, "disk-not-found"),
    "another serial": ({"os": {"serial": "S-new"}}, {}, "disk-not-found"),
    "another size": ({"os": {"size": SIZE + ondisk.MIB}}, {}, "disk-not-found"),
    "the ledger has the serial too": ({"ledger": {"serial": "S-os"}}, {"protected": [{"wwid": "eui.ledger"}]}, "disk-ambiguous"),
    "serial of the ledger": ({}, {"os_disk": {"serial": "S-ledger", "size_bytes": SIZE}}, "protected-is-os-disk"),
    "serial and wwid of two disks": ({}, {"os_disk": {"serial": "S-os", "wwid": "eui.data"}}, "disk-not-found"),
    "no protected disk": ({"ledger": {"absent": True}}, {}, "protected-missing"),
    "no data disk": ({"data": {"absent": True}}, {}, "data-missing"),
    "no OS disk": ({"os": {"absent": True}}, {}, "disk-not-found"),
    "protected by size only": ({}, {"protected": [{"size_bytes": SIZE}]}, "protected-ambiguous"),
    "held by md": ({"os": {"holders": ("md127",)}}, {}, "disk-busy"),
    "held by device mapper": ({"os": {"holders": ("dm-0",)}}, {}, "disk-busy"),
    "too small": ({"os": {"size": 100 * ondisk.MIB}}, {"os_disk": {"serial": "S-os", "wwid": "eui.os"}}, "disk-small"),
    "4Kn and BIOS": ({"os": {"sector": 4096}}, {}, "disk-4kn"),
}  # fmt: skip


@pytest.mark.parametrize("order", [("os", "ledger", "data"), ("data", "ledger", "os")], ids="-".join)
@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_unclear_is_refused(room, case, order):
    changes, job, code = REFUSALS[case]
    room.fill(NAMES["virtio"], order, **changes)
    room.job_fields.update(job)
    assert room.refused() == code


@pytest.mark.parametrize("in_partition", [False, True])
@pytest.mark.parametrize(
    ("kind", "offset", "magic"),
    [
        ("md", 4096, b"\xfc\x4e\x2b\xa9"),
        ("lvm", 512, b"LABELONE"),
        ("zfs", 131072, (0x00BAB10C).to_bytes(8, "little")),
        ("luks", 0, b"LUKS\xba\xbe"),
    ],
)
def test_members_of_foreign_pools_are_refused(room, kind, offset, magic, in_partition):
    room.fill(NAMES["scsi"])
    if in_partition:
        write_gpt(room.path("os"), "data")
    poke(room.path("os"), offset + (ondisk.MIB if in_partition else 0), magic)
    with pytest.raises(AgentError, match=kind) as caught:
        room.run()
    assert caught.value.code == "disk-member"
    assert ("mirror" in caught.value.remedy) == (kind == "md")


@pytest.mark.parametrize("role", ["ledger", "data"])
def test_pools_on_other_disks_are_their_own_affair(room, role):
    room.fill(NAMES["nvme"])
    poke(room.path(role), 131072, (0x00BAB10C).to_bytes(8, "little"))
    assert room.run() == "os"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("mounts", "/dev/{name} /mnt ext4 rw 0 0\n"),
        ("mounts", "/dev/{name}1 / ext4 rw 0 0\n"),
        ("swaps", "Filename Type\n/dev/{name}1 partition 1 0 -2\n"),
    ],
)
def test_a_disk_in_use_is_refused(room, file, line):
    room.fill(NAMES["virtio"], os={"partitions": ("vda1",)})
    (room.machine.host.proc / file).write_text(line.format(name="vda"))
    assert room.refused() == "disk-busy"


def test_a_second_installation_is_refused_and_a_second_esp_is_told(room):
    room.fill(NAMES["virtio"])
    write_gpt(room.path("data"), "debian", kinds=(disks.ESP_TYPE,))
    assert room.run() == "os"
    assert "vdc" in room.plan.warnings[0]
    write_gpt(room.path("data"), *disks.LABELS)
    room.read_only.clear()
    assert room.refused() == "label-duplicate"


@pytest.fixture
def ours(room):
    """A machine whose OS disk has our layout, its state inside."""

    def make(**os_facts):
        room.fill(NAMES["virtio"], os=os_facts)
        path = room.path("os")
        partition.write_table(room.machine.discover()[0], partition.Layout(33, 130))
        poke(path, 200 * ondisk.MIB, b"STATE")
        return path

    return make


@pytest.mark.parametrize("torn", [0, 512, 1024 + 60])
def test_a_torn_table_is_mended_and_what_it_leads_to_kept(room, ours, torn):
    path = ours()
    whole = room.machine.discover()[0].gpt
    poke(path, torn, bytes(512))
    assert room.run() == "os"
    assert room.plan.keeps_layout
    found = room.machine.discover()[0]
    assert found.gpt == whole
    partition.check_tables(found)
    with path.open("rb") as file:
        assert ondisk.read_at(file, 200 * ondisk.MIB, 5) == b"STATE"


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_backup_that_is_not_at_the_end_is_moved_there(room, ours, is_torn):
    """A disk that grew, or a disk image that was written to a larger one."""
    path = ours()
    grown = SIZE + 64 * ondisk.MIB
    with path.open("r+b") as file:
        file.truncate(grown)
    (room.machine.root / "sys/block/vda/size").write_text(str(grown // 512))
    room.bind(size_bytes=grown)
    if is_torn:
        poke(path, 512, bytes(512))
    assert room.run() == "os"
    assert room.plan.keeps_layout
    partition.check_tables(room.machine.discover()[0])


def efi(room):
    folder = room.machine.root / "sys/firmware/efi/efivars"
    folder.mkdir(parents=True)
    return folder


def test_sectors_of_4_kib_are_taken_on_uefi(room):
    room.fill(NAMES["virtio"], os={"sector": 4096})
    efi(room)
    job = parse_job(json.dumps(room.job_fields).encode())
    assert install.check(job, room.trust, NOW, room.machine.host, Reporter()).disk.name == "vda"


@pytest.mark.parametrize(("value", "code"), [(b"\6\0\0\0\1", "secure-boot-on"), (b"\6\0\0\0\0", "")])
def test_secure_boot_is_refused(room, value, code):
    room.fill(NAMES["virtio"])
    (efi(room) / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(value)
    assert (room.refused() if code else room.run()) == (code or "os")


def test_secure_boot_is_known_from_the_kernel_where_efivarfs_is_not_mounted(room):
    room.fill(NAMES["virtio"])
    params = room.machine.root / "sys/kernel/boot_params"
    params.mkdir(parents=True)
    (params / "data").write_bytes(bytes(0x1EC) + b"\3" + bytes(100))
    assert room.refused() == "secure-boot-on"


@pytest.mark.parametrize(("kib", "code"), [(1024, "memory-small"), (1 << 20, "")])
def test_too_little_memory_is_refused(room, kib, code):
    room.fill(NAMES["virtio"])
    (room.machine.host.proc / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {kib} kB\n")
    assert (room.refused() if code else room.run()) == (code or "os")
