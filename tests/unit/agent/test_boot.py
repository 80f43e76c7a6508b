"""The boot choice on the ESP under power cuts: every prefix of the writes leaves an old or the new choice, never none."""

import os

import pytest

from flash.agent import bios, boot, durable
from flash.agent.errors import AgentError
from flash.agent.imagelist import parse_list
from flash.agent.ondisk import MIB, Partition

pytestmark = pytest.mark.unit

A, B, C = "a" * 64, "b" * 64, "c" * 64
SECTOR = 512


@pytest.fixture
def esp(tmp_path):
    (tmp_path / "grub").mkdir()
    boot.write_default(tmp_path, A, "")
    boot.write_once(tmp_path, "")
    return tmp_path


def test_block_is_what_grub_reads(esp):
    block = (esp / "grub/state.a").read_bytes()
    assert len(block) == 1024
    assert block.startswith(b"# GRUB Environment Block\ndefault=" + A.encode() + b"\nprevious=\n#")
    assert (esp / "grub/state.a.sum").read_text().endswith("  state.a\n")
    assert boot.parse_block(block) == {"default": A, "previous": ""}


def test_all_that_counts_stands_in_the_first_sector():
    full = boot.format_block({"default": A, "previous": B})
    assert set(full[SECTOR:]) == {ord("#")}
    assert set(boot.format_block({"once": A, "tries": "i" * 7})[SECTOR:]) == {ord("#")}


def test_choice_is_read_back(esp):
    boot.write_default(esp, B, A)
    boot.write_once(esp, C, 2)
    assert boot.read_state(esp) == boot.BootState(B, A, C, 2)


@pytest.fixture
def recorded_writes(esp, monkeypatch):
    """Record the single-sector writes of a change from A to B instead of doing them."""
    writes = []

    def record(path, data):
        writes.extend((path, at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "overwrite", record)
        boot.write_default(esp, B, A)
    return writes


def poke(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("garbage", [b"", bytes(SECTOR), os.urandom(SECTOR)])
def test_power_cut_at_any_sector_leaves_a_choice(esp, recorded_writes, garbage):
    """After each whole sector, and with the sector at the cut lost to garbage, GRUB finds A or B, and B stays once seen."""
    seen = []
    for path, offset, sector in recorded_writes:
        if garbage:
            kept = path.read_bytes()
            poke(path, offset, garbage[: len(sector)])
            assert boot.read_state(esp).default in (A, B)
            path.write_bytes(kept)
        poke(path, offset, sector)
        seen.append(boot.read_state(esp).default)
    assert seen == sorted(seen)
    assert seen[-1] == B


@pytest.mark.parametrize("damage", ["missing", "empty", "flipped", "no sum", "empty sum", "sum of b"])
def test_damaged_copy_is_passed_over(esp, damage):
    boot.write_default(esp, B, A)
    first, total = esp / "grub/state.a", esp / "grub/state.a.sum"
    if damage == "missing":
        first.unlink()
    elif damage == "empty":
        first.write_bytes(b"")
    elif damage == "flipped":
        first.write_bytes(first.read_bytes().replace(b"b", b"d", 1))
    elif damage == "no sum":
        total.unlink()
    elif damage == "empty sum":
        total.write_bytes(b"")
    else:
        total.write_bytes((esp / "grub/state.b.sum").read_bytes())
    assert boot.read_state(esp).default == B


def test_both_copies_lost_is_said(esp):
    for copy in "ab":
        (esp / f"grub/state.{copy}").write_bytes(os.urandom(1024))
    with pytest.raises(AgentError) as caught:
        boot.read_state(esp)
    assert caught.value.code == "boot-state-lost"


def test_damaged_once_is_no_once(esp):
    (esp / "grub/once").write_bytes(os.urandom(1024))
    assert boot.read_state(esp) == boot.BootState(A)


def test_overwriting_keeps_the_file_in_its_place(esp):
    before = (esp / "grub/state.a").stat().st_ino
    boot.write_default(esp, B, A)
    assert (esp / "grub/state.a").stat().st_ino == before


def test_commit_keeps_the_old_default_as_previous(esp):
    assert boot.commit(esp, B) == boot.BootState(B, A)
    assert boot.commit(esp, B) == boot.BootState(B, A)
    assert boot.read_state(esp) == boot.BootState(B, A)


def test_commit_does_not_keep_a_default_that_failed(esp):
    boot.write_default(esp, B, A)
    boot.write_once(esp, "", boot.TRIES_PER_IMAGE)
    assert boot.commit(esp, C) == boot.BootState(C, A)


def test_rollback_to_previous_swaps(esp):
    boot.write_default(esp, B, A)
    assert boot.commit(esp, A) == boot.BootState(A, B)


@pytest.mark.parametrize(
    ("running", "before", "after"),
    [(B, 1, 0), (B, 0, 0), (A, 4, 3), (A, 3, 3), (A, 1, 1), (C, 2, 2)],
)
def test_success_takes_the_tries_of_the_running_image_off(esp, running, before, after):
    boot.write_default(esp, B, A)
    boot.write_once(esp, "", before)
    assert boot.note_success(esp, running).tries == after
    assert boot.read_state(esp).tries == after


def test_entry_boots_only_what_loads(image):
    parsed = parse_list(image.list_text)
    entry = boot.render_entry(parsed, "SYS-UUID", "STATE-UUID", "lab=1")
    assert entry.splitlines() == [
        (
            f"if linux /boot/{parsed.kernel.sha256} boot=qtrade ro panic=10 qtrade.image={parsed.image_id} "
            "qtrade.system=PARTUUID=SYS-UUID qtrade.state=PARTUUID=STATE-UUID console=ttyS0 quiet lab=1; then"
        ),
        f"  if initrd /boot/{parsed.initrd.sha256}; then",
        "    boot",
        "  fi",
        "fi",
    ]


def test_bios_parts_point_at_each_other():
    code = bios.patch_boot(bytes(512), 2048)
    assert len(code) == 440
    assert code[0x5C:0x64] == (2048).to_bytes(8, "little")
    assert code[0x66:0x68] == b"\x90\x90"
    core = bios.patch_core(b"x" * 1300, 2048)
    assert len(core) == 3 * SECTOR
    assert core[500:512] == (2049).to_bytes(8, "little") + (2).to_bytes(2, "little") + b"\x20\x08"


@pytest.fixture
def bios_disk(tmp_path):
    """A disk whose first sector ends in a partition table, with a bios_boot of 1 MiB; and what was written to it, offset by offset."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"B" * 440 + b"T" * 72 + bytes(3 * MIB))
    return disk, Partition(1, "bios_boot", "", "", MIB, MIB)


def core_that_boots(disk):
    """Return the core.img that the first sector leads to, without what is patched in."""
    data = disk.read_bytes()
    place = int.from_bytes(data[0x5C:0x64], "little") * SECTOR
    return data[place : place + 500]


def test_a_new_core_goes_beside_the_old_one_and_one_sector_leads_to_it(bios_disk, monkeypatch):
    disk, where = bios_disk
    bios.install_bios(disk, where, b"b" * 512, b"1" * 3000)
    assert core_that_boots(disk) == b"1" * 500
    writes, real = [], os.pwrite

    def cut(device, data, offset):
        """Stop as a power cut would, in the middle of each write in turn."""
        writes.append(offset)
        if len(writes) == stop_at:
            real(device, data[: len(data) // 2], offset)
            raise OSError
        return real(device, data, offset)

    monkeypatch.setattr(os, "pwrite", cut)
    stop_at = 1
    with pytest.raises(OSError):
        bios.install_bios(disk, where, b"b" * 512, b"2" * 3000)
    assert writes == [where.start + where.size // 2]
    assert core_that_boots(disk) == b"1" * 500
    stop_at = 0
    bios.install_bios(disk, where, b"b" * 512, b"2" * 3000)
    assert core_that_boots(disk) == b"2" * 500
    assert writes[1:] == [where.start + where.size // 2, 0]
    bios.install_bios(disk, where, b"b" * 512, b"3" * 3000)
    assert writes[3:] == [where.start, 0]
    assert disk.read_bytes()[440:512] == b"T" * 72


def test_a_grub_that_stands_there_is_not_written_again(bios_disk, monkeypatch):
    disk, where = bios_disk
    bios.install_bios(disk, where, b"b" * 512, b"1" * 3000)
    monkeypatch.setattr(os, "pwrite", lambda *_: pytest.fail("it was written again"))
    bios.install_bios(disk, where, b"b" * 512, b"1" * 3000)


def test_a_core_that_does_not_fit_twice_is_refused(bios_disk):
    disk, where = bios_disk
    with pytest.raises(AgentError, match="half of bios_boot"):
        bios.install_bios(disk, where, b"b" * 512, bytes(where.size // 2 + 1))


def test_on_fat_a_replaced_file_lives_until_name_and_inode_of_the_new_one_are_flushed(tmp_path, monkeypatch):
    """Its clusters are free once it is closed, and nothing on the disk must lead to free ones then."""
    path = tmp_path / "grub.cfg"
    path.write_bytes(b"old")
    seen = []

    inode = path.stat().st_ino

    def flush(where):
        open_ones = [fd for fd in range(256) if is_open(fd, inode)]
        seen.append((where, path.read_bytes(), len(open_ones)))

    monkeypatch.setattr(durable, "sync_folder", flush)
    monkeypatch.setattr(durable, "flush_file", flush)
    durable.write_on_fat(path, b"new")
    assert seen == [(tmp_path, b"new", 1), (path, b"new", 1)]
    assert not [fd for fd in range(256) if is_open(fd, inode)]


def test_on_fat_what_a_power_cut_left_is_never_deleted(tmp_path):
    """Its clusters may be those of a file that lives."""
    path = tmp_path / "grub.cfg"
    leftovers = [tmp_path / ".grub.cfg.new", tmp_path / ".grub.cfg.new1"]
    for leftover in leftovers:
        leftover.write_bytes(b"torn")
    durable.write_on_fat(path, b"one")
    durable.write_on_fat(path, b"two")
    assert path.read_bytes() == b"two"
    assert sorted(tmp_path.iterdir()) == sorted([path, *leftovers])
    assert {leftover.read_bytes() for leftover in leftovers} == {b"torn"}


def test_on_fat_too_many_leftovers_are_refused_with_a_cure(tmp_path):
    path = tmp_path / "grub.cfg"
    for number in range(100):
        (tmp_path / f".grub.cfg.new{number or ''}").touch()
    with pytest.raises(AgentError, match="100 leftovers of power cuts") as caught:
        durable.write_on_fat(path, b"one")
    assert "--reimage" in caught.value.remedy
    assert not path.exists()


def is_open(descriptor, inode):
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False
