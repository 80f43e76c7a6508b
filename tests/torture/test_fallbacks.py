"""Installed versions that are broken in every way that a BIOS host must notice before it runs them: it falls back by itself."""

from pathlib import Path

import pytest

from flash.lab import host as lab
from qtrade.settings import Settings
from tests.e2e.images import extra_layer, other_kernel, publish_variant
from tests.rigs import LabRig
from tests.torture.faults import arm, edit_system, expect_fallback, flip_byte

pytestmark = pytest.mark.torture


def test_init_that_exits_falls_back(bios: LabRig, settings: Settings, image_010: str, tmp_path: Path) -> None:
    layer = extra_layer(settings, tmp_path, {"usr/sbin/init": "#!/bin/sh\nexit 1\n"})
    publish_variant(settings, "0.2.0", top=layer)
    begin = bios.host.console.offset()
    boot_id = arm(bios, "0.2.0")
    expect_fallback(bios, "0.2.0", image_010, boot_id)
    assert "Kernel panic" in bios.host.console.read(begin)


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_blob_fault_falls_back(fault: str, bios: LabRig, settings: Settings, image_010: str, tmp_path: Path) -> None:
    layer = extra_layer(settings, tmp_path, {f"usr/share/{fault}": fault})
    version = f"0.2.1-{fault}"
    publish_variant(settings, version, top=layer)
    begin = bios.host.console.offset()
    boot_id = arm(bios, version)
    lab.cut_power(settings, bios.name)
    path = f"/layers/{layer.digest}.erofs"
    if fault == "missing":
        edit_system(bios, tmp_path, f"rm {path}")
    else:
        flip_byte(bios, tmp_path, path)
    expect_fallback(bios, version, image_010, boot_id)
    assert "qtrade: FAIL" in bios.host.console.read(begin)


def test_missing_kernel_falls_back(bios: LabRig, settings: Settings, image_010: str, tmp_path: Path) -> None:
    kernel = other_kernel(settings, tmp_path)
    publish_variant(settings, "0.2.3", kernel=kernel)
    begin = bios.host.console.offset()
    boot_id = arm(bios, "0.2.3")
    lab.cut_power(settings, bios.name)
    edit_system(bios, tmp_path, f"rm /boot/{kernel.digest}")
    expect_fallback(bios, "0.2.3", image_010, boot_id)
    assert "FAIL grub cannot load the once image" in bios.host.console.read(begin)
