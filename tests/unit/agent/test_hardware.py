"""Failing disks, and clocks that are wrong."""

import errno
from types import SimpleNamespace

import pytest

from flash.agent import hardware, sectors, trust, verity
from flash.agent.errors import AgentError
from flash.agent.imagelist import Blob
from tests.fakes.agent_disks import Machine

pytestmark = pytest.mark.unit


def test_errors_that_were_there_before_do_not_count(tmp_path):
    machine = Machine(tmp_path)
    machine.add("sda", serial="S1")
    (disk,) = machine.discover()
    sysfs = tmp_path / "sys"
    assert hardware.io_errors(disk, sysfs) == 0
    count = sysfs / "block/sda/device/ioerr_cnt"
    count.write_text("0xb\n")
    before = hardware.io_errors(disk, sysfs)
    assert before == 11
    hardware.require_no_new_errors(disk, sysfs, before)
    count.write_text("0xd\n")
    with pytest.raises(AgentError, match=r"sda .*had 2 I/O errors while it was written") as caught:
        hardware.require_no_new_errors(disk, sysfs, before)
    assert caught.value.code == "disk-failing"


@pytest.mark.parametrize(("bits", "text"), [(0, ""), (0b10, ""), (0b100, "no longer reliable"), (0b1001, "read-only")])
def test_critical_warnings_of_nvme(bits, text):
    assert text in hardware.describe_warning(bits)
    assert bool(hardware.describe_warning(bits)) == bool(text)


def test_a_disk_that_cannot_be_asked_is_no_failing_disk(tmp_path):
    machine = Machine(tmp_path)
    machine.add("nvme0n1", serial="S1")
    assert hardware.nvme_warning(machine.discover()[0]) == ""


def test_a_read_error_names_disk_and_sector(tmp_path, monkeypatch):
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 5000)
    monkeypatch.setattr(sectors, "locate", lambda _path, offset, _sysfs: ("nvme0n1", 4096 + offset // 512))
    error = sectors.read_failed(path, 1024, OSError(errno.EIO, "Input/output error"))
    assert (error.code, error.message) == (
        "disk-read-failed",
        "blob on nvme0n1, sector 4098 cannot be read at byte 1024: Input/output error",
    )


def test_a_blob_that_cannot_be_read_is_not_intact(tmp_path):
    assert not verity.is_intact(tmp_path / "none", Blob("a" * 64, 5, "", "kernel"))


@pytest.mark.parametrize("clock", [0, 5_000])
def test_a_clock_in_the_past_makes_nothing_fresh_again(monkeypatch, clock):
    monkeypatch.setattr(trust.time, "time", lambda: clock)
    held = SimpleNamespace(issued_at=1_800_000_500)
    assert trust.latest_time(1_800_000_000, held) == 1_800_000_500
