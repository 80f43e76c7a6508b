"""What does not fit on system or state partition is refused with figures, before anything is written."""

import errno
import os
from types import SimpleNamespace

import pytest

from flash.agent import actions, durable, journal, room
from flash.agent.errors import AgentError

pytestmark = pytest.mark.unit

FREE = 100 << 20


@pytest.fixture
def partition(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=FREE // 4096, f_frsize=4096))
    return tmp_path


@pytest.mark.parametrize(
    "needed", [FREE * 2, FREE, FREE - (2 << 20)], ids=["twice", "all", "all but what verity wants"]
)
def test_what_would_fill_the_partition_is_refused(partition, needed):
    with pytest.raises(AgentError) as caught:
        actions._require_space(partition, needed)
    assert caught.value.code == "system-full"
    assert f"{FREE} bytes free" in str(caught.value)
    assert f"for {needed} bytes" in str(caught.value)
    assert "system_mib" in caught.value.remedy


@pytest.mark.parametrize("needed", [0, 1, FREE - (3 << 20)])
def test_what_fits_is_taken(partition, needed):
    actions._require_space(partition, needed)


def test_an_image_that_is_there_already_needs_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
    actions._require_space(tmp_path, 0)


@pytest.mark.parametrize(
    ("blocks", "free", "left"), [(1000, 500, 480), (10**6, 5000, 904), (10**6, 4096, 0), (10**6, 9, 0)]
)
def test_what_ext4_keeps_back_from_root_is_no_room(tmp_path, monkeypatch, blocks, free, left):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=blocks, f_bfree=free, f_frsize=4096))
    assert room.root_can_write(tmp_path) == left * 4096


def test_a_job_that_cannot_be_noted_is_refused_with_figures(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "write_file", full)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=1000, f_bfree=27, f_frsize=4096))
    with pytest.raises(AgentError) as caught:
        journal.Journal(tmp_path).use_lease(SimpleNamespace(lease=7))
    assert caught.value.code == "state-full"
    assert f"lease on qtrade-state cannot be written: No space left on device; {7 * 4096} bytes are free" in str(
        caught.value
    )
    assert "make room below /var" in caught.value.remedy
