"""Blank data disks are formatted, hosts are wiped; whatever else the machine has keeps its bytes."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from flash.agent import disks, errands, protect, wipe
from flash.agent.errors import AgentError
from flash.agent.job import parse_job
from flash.agent.report import Reporter
from tests.fakes.agent_disks import SIZE, Machine, poke, write_ext4, write_gpt

pytestmark = pytest.mark.unit

UUID = "11111111-2222-3333-4444-555555555555"
FRESH = SimpleNamespace(require_fresh=lambda now: None)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    """A machine whose disks are files: ioctls that make them read-only are only remembered."""
    made = Machine(tmp_path)
    discover = disks.discover
    monkeypatch.setattr(disks, "discover", lambda: discover(tmp_path / "sys", tmp_path / "dev"))
    monkeypatch.setattr(disks, "read_mounts", dict)
    monkeypatch.setattr(protect, "set_read_only", lambda found: made.read_only.extend(disk.name for disk in found))
    write_gpt(made.add("vda", serial="OS1"), *disks.LABELS)
    write_ext4(made.add("vdb", serial="LEDGER"), 0, 3)
    made.discover = disks.discover
    return made


def digest(machine, name) -> str:
    return hashlib.sha256((machine.root / "dev" / name).read_bytes()).hexdigest()


def do(job_fields, kind, *data):
    protected = [{"serial": "LEDGER"}]
    fields = job_fields(
        kind=kind, image=None, source=None, layout=None, protected=protected, data=list(data) or None,
        os_disk={"serial": "OS1", "size_bytes": SIZE},
    )  # fmt: skip
    job = parse_job(json.dumps(fields).encode())
    return errands.ERRANDS[kind](job, FRESH, 0.0, Reporter())


def test_a_blank_data_disk_gets_its_filesystem_once(machine, job_fields) -> None:
    machine.add("vdc", serial="DATA")
    before = [digest(machine, name) for name in ("vda", "vdb")]
    done = do(job_fields, "prepare_disks", {"serial": "DATA", "fs_uuid": UUID})
    assert [one["fs_uuid"] for one in done["formatted"]] == [UUID]
    assert UUID in next(disk for disk in machine.discover() if disk.name == "vdc").fs_uuids
    assert sorted(machine.read_only) == ["vda", "vdb"]
    assert do(job_fields, "prepare_disks", {"serial": "DATA", "fs_uuid": UUID}) == {"formatted": []}
    assert [digest(machine, name) for name in ("vda", "vdb")] == before


@pytest.mark.parametrize(
    "fill",
    [
        lambda path: write_gpt(path, "old"),
        lambda path: write_ext4(path, 0, 9),
        lambda path: poke(path, SIZE - 1, b"x"),
        lambda path: poke(path, SIZE // 2, b"x" * 65536),
        lambda path: poke(path, 512, b"LABELONE"),
    ],
    ids=["a table", "another filesystem", "the last byte", "64 KiB in the middle", "LVM"],
)
def test_one_disk_that_is_not_blank_stops_all(machine, job_fields, fill) -> None:
    machine.add("vdc", serial="DATA")
    fill(machine.add("vdd", serial="MORE"))
    before = [digest(machine, name) for name in ("vda", "vdb", "vdc", "vdd")]
    more = {"serial": "MORE", "fs_uuid": UUID.replace("1", "2")}
    with pytest.raises(AgentError) as caught:
        do(job_fields, "prepare_disks", {"serial": "DATA", "fs_uuid": UUID}, more)
    assert caught.value.code in ("disk-not-blank", "disk-member")
    assert "MORE" in caught.value.message
    assert [digest(machine, name) for name in ("vda", "vdb", "vdc", "vdd")] == before


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"serial": "DATA"}, "job-invalid"),
        ({"serial": "GONE", "fs_uuid": UUID}, "data-missing"),
        ({"serial": "OS1", "fs_uuid": UUID}, "data-is-os-disk"),
        ({"serial": "LEDGER", "fs_uuid": UUID}, "data-is-protected"),
    ],
)
def test_what_names_no_data_disk_is_refused(machine, job_fields, data, code) -> None:
    machine.add("vdc", serial="DATA")
    before = [digest(machine, name) for name in ("vda", "vdb", "vdc")]
    with pytest.raises(AgentError) as caught:
        do(job_fields, "prepare_disks", data)
    assert caught.value.code == code
    assert [digest(machine, name) for name in ("vda", "vdb", "vdc")] == before


def test_a_wiped_host_keeps_nothing_of_its_state_and_all_of_its_other_disks(machine, job_fields) -> None:
    secret = b"credential " * 400
    state = next(disk for disk in machine.discover() if disk.name == "vda").partition("qtrade-state")
    poke(machine.root / "dev/vda", state.start + 5000, secret)
    before = digest(machine, "vdb")
    done = do(job_fields, "decommission")
    raw = (machine.root / "dev/vda").read_bytes()
    assert done["wiped_bytes"] == state.size
    assert not any(raw[state.start : state.start + state.size])
    assert not any(raw[: 1 << 20])
    assert b"credential" not in raw
    assert digest(machine, "vdb") == before
    assert [row["serial"] for row in done["protected"]] == ["LEDGER"]
    assert machine.read_only == ["vdb"]


def test_a_disk_of_somebody_else_is_never_wiped(machine, job_fields) -> None:
    write_gpt(machine.root / "dev/vda", "root", "swap")
    before = digest(machine, "vda")
    with pytest.raises(AgentError) as caught:
        do(job_fields, "decommission")
    assert caught.value.code == "disk-foreign"
    assert digest(machine, "vda") == before


def test_zeros_are_told_of_and_stay_in_their_place(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 300)
    told = []
    wipe.zero(disk, 100, 100, told.append)
    assert disk.read_bytes() == b"x" * 100 + bytes(100) + b"x" * 100
    assert told == [100]
