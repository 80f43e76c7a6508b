"""What an installation does to a state partition that is there: real filesystems in files, damaged in every way that leaves traces.

The one rule: what may hold a host's state is mended or refused, and made anew only where nothing was, or where it was given up.
"""

import subprocess
from types import SimpleNamespace

import pytest

from flash.agent import ext4, install, ondisk, partition
from flash.agent.errors import AgentError
from flash.agent.job import Layout
from tests.fakes.agent_disks import Machine, poke

pytestmark = pytest.mark.unit

LAYOUT = Layout(33, 130)
SIZE = 720 * ondisk.MIB
GROUP = 32768 * 4096
SECRET = b"the host's identity"
GARBAGE = bytes(range(1, 256)) * 16


@pytest.fixture
def disk(tmp_path):
    """A disk of ours, its partitions as files: a whole system partition, an ESP, and a state partition that holds something."""
    machine = Machine(tmp_path)
    machine.add("vda", serial="S-os", size=SIZE)
    partition.write_table(machine.discover()[0], LAYOUT)
    (found,) = machine.discover()
    for one in found.gpt.partitions:
        with found.partition_path(one.label).open("wb") as file:
            file.truncate(one.size)
    poke(found.partition_path("qtrade-esp"), 54, b"FAT16   ")
    partition.make_system(found.partition_path("qtrade-system"))
    partition.make_state(state_of(found))
    (tmp_path / "secret").write_bytes(SECRET)
    debugfs(state_of(found), f"write {tmp_path}/secret secret", write=True)
    return found


def state_of(disk):
    return disk.partition_path("qtrade-state")


def debugfs(device, request, *, write=False):
    argv = ["debugfs", *(["-w"] if write else []), "-R", request, str(device)]
    return subprocess.run(argv, capture_output=True, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}).stdout


def lose_root(disk):
    """Take the root directory's inode away: e2fsck would have to move all to lost+found, which it does not do unasked."""
    for request in ("clri <2>", "set_super_value state 0"):
        debugfs(state_of(disk), request, write=True)


def make(disk, **changes):
    job = SimpleNamespace(wipe_state=False, remake_system=False)
    plan = SimpleNamespace(keeps_layout=True, job=job)
    for name, value in changes.items():
        setattr(plan if name == "keeps_layout" else job, name, value)
    return install._make_filesystems(disk, plan)


def is_kept(disk):
    sound = subprocess.run(
        ["e2fsck", "-fn", str(state_of(disk))], capture_output=True, check=False, env={"PATH": "/usr/sbin:/sbin"}
    )
    return sound.returncode == 0 and SECRET in debugfs(state_of(disk), "cat secret")


DAMAGE = {
    "nothing": [],
    "zeros over the superblock": [(1024, bytes(1024))],
    "garbage over the head": [(0, GARBAGE)],
    "only the magic": [(0x438, b"\0\0")],
    "the second sector of the superblock is torn": [(1536, GARBAGE[:512])],
    "the first copy too": [(0, GARBAGE), (GROUP, GARBAGE)],
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_superblock_comes_back_from_a_copy_with_all_that_was_there(disk, case):
    for offset, data in DAMAGE[case]:
        poke(state_of(disk), offset, data)
    assert ext4.is_sound(state_of(disk)) == (case == "nothing"), "the damage did no harm"
    assert make(disk)
    assert is_kept(disk)


def lose_copies(disk, data):
    for offset in (GROUP, 3 * GROUP):
        poke(state_of(disk), offset, data)


@pytest.mark.parametrize("head", [GARBAGE, b"\1"])
def test_a_state_that_no_copy_brings_back_is_refused_and_left_alone(disk, head):
    poke(state_of(disk), 0, bytes(4096))
    poke(state_of(disk), 1024, head)
    lose_copies(disk, GARBAGE)
    before = state_of(disk).read_bytes()
    with pytest.raises(AgentError) as caught:
        make(disk)
    assert caught.value.code == "state-broken"
    assert "--wipe-state" in caught.value.remedy
    assert "e2fsck" in caught.value.remedy
    assert state_of(disk).read_bytes() == before


def test_faults_that_cost_data_are_refused_though_the_superblock_is_whole(disk):
    lose_root(disk)
    with pytest.raises(AgentError) as caught:
        make(disk)
    assert caught.value.code == "state-broken"


def test_a_blank_head_with_copies_that_do_not_mend_it_is_refused(disk):
    lose_root(disk)
    poke(state_of(disk), 0, bytes(4096))
    assert ext4.is_blank(state_of(disk))
    with pytest.raises(AgentError) as caught:
        make(disk)
    assert caught.value.code == "state-broken"


def test_a_state_that_an_installation_broke_off_in_making_is_made(disk):
    """The power went within mke2fs: copies stand, the superblock does not; the system partition would have come later."""
    lose_root(disk)
    poke(state_of(disk), 0, bytes(4096))
    poke(disk.partition_path("qtrade-system"), 0x438, b"\0\0")
    assert not install._keep_state(disk)


def test_a_blank_partition_is_made(disk):
    state_of(disk).write_bytes(b"")
    with state_of(disk).open("r+b") as file:
        file.truncate(disk.partition("qtrade-state").size)
    assert make(disk)
    assert ext4.is_sound(state_of(disk))
    assert SECRET not in debugfs(state_of(disk), "cat secret")


@pytest.mark.parametrize("given_up", [{"wipe_state": True}, {"keeps_layout": False}], ids=str)
def test_a_state_that_was_given_up_is_made_whatever_is_there(disk, given_up, monkeypatch):
    monkeypatch.setattr(partition, "make_esp", lambda _: None)
    poke(state_of(disk), 0, GARBAGE)
    make(disk, **given_up)
    assert ext4.is_sound(state_of(disk))
    assert SECRET not in debugfs(state_of(disk), "cat secret")


def test_a_foreign_filesystem_there_is_no_state_of_ours(disk):
    """The copies of another filesystem's superblock bring nothing back."""
    subprocess.run(["tune2fs", "-L", "other", str(state_of(disk))], check=True, env={"PATH": "/usr/sbin:/sbin"})
    poke(state_of(disk), 0, GARBAGE)
    assert ext4.find_copies(state_of(disk), "qtrade-state") == []
    with pytest.raises(AgentError) as caught:
        make(disk)
    assert caught.value.code == "state-broken"


def test_what_lay_where_the_state_will_be_is_gone_before_the_table_says_so(tmp_path, monkeypatch):
    """Else a power cut right after the table would leave what passes for a damaged state."""
    machine = Machine(tmp_path)
    path = machine.add("vda", serial="S-os", size=SIZE)
    start = (2 + LAYOUT.esp_mib + LAYOUT.system_mib) * ondisk.MIB
    poke(path, start, GARBAGE)

    def cut(*_args, **_options):
        with path.open("rb") as file:
            assert ondisk.read_at(file, start, len(GARBAGE)) == bytes(len(GARBAGE))
        raise OSError

    monkeypatch.setattr(partition, "run", cut)
    with pytest.raises(OSError):
        partition.write_table(machine.discover()[0], LAYOUT)
    monkeypatch.undo()
    partition.write_table(machine.discover()[0], LAYOUT)
    assert machine.discover()[0].partition("qtrade-state").start == start
