"""UEFI firmware: a flash over the network, and one version there that does not come up."""

from pathlib import Path

import pytest

from qtrade.settings import Settings
from tests.e2e.faults import arm, expect_fallback
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import LabRig

pytestmark = pytest.mark.e2e


def test_flashed_host_booted_by_uefi(uefi: LabRig) -> None:
    assert uefi.sh("test -d /sys/firmware/efi && echo yes") == "yes"
    assert uefi.link.status()["upper"] == []


def test_init_that_exits_falls_back(uefi: LabRig, settings: Settings, image_010: str, tmp_path: Path) -> None:
    layer = extra_layer(settings, tmp_path, {"usr/sbin/init": "#!/bin/sh\nexit 1\n"})
    publish_variant(settings, "0.2.0", top=layer)
    begin = uefi.host.console.offset()
    boot_id = arm(uefi, "0.2.0")
    expect_fallback(uefi, "0.2.0", image_010, boot_id)
    assert "Kernel panic" in uefi.host.console.read(begin)
