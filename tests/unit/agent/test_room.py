"""What does not fit on the system partition is refused with figures, before anything is written."""

import os
from types import SimpleNamespace

import pytest

from flash.agent import actions
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
