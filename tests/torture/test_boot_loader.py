"""A BIOS GRUB that was put beside the old one boots, from the half of its partition that it was put into and from nowhere else."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from bake import boot_test
from bake.output.disk import DiskImage
from bake.output.installer import extract_grub
from flash.agent.bios import install_bios
from flash.agent.ondisk import SECTOR, read_gpt
from qtrade.machine.spec import Firmware
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import PublishedImage, Store, open_store
from qtrade.toolsroot import ToolsRoot
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.torture

CORE_LBA = 0x5C  # in boot.img: where core.img begins


def core_lba(disk: Path) -> int:
    with disk.open("rb") as stream:
        return struct.unpack_from("<Q", stream.read(SECTOR), CORE_LBA)[0]


def replace_grub(disk: Path, grub: Path) -> None:
    """Install another core.img (two empty sectors longer: the same program), and wipe the one that booted until now."""
    with disk.open("rb") as stream:
        (where,) = [part for part in read_gpt(stream).partitions if part.label == "bios_boot"]
    old = core_lba(disk)
    install_bios(disk, where, (grub / "boot.img").read_bytes(), (grub / "core.img").read_bytes() + bytes(2 * SECTOR))
    assert core_lba(disk) == old + where.size // 2 // SECTOR
    with disk.open("r+b") as stream:
        stream.seek(old * SECTOR)
        stream.write(bytes(where.size // 2))
        os.fsync(stream.fileno())


def test_a_grub_that_was_replaced_boots(
    settings: Settings, image_010: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = boot_test.build_disk
    replaced = []

    def build_and_replace(
        tools: ToolsRoot, store: Store, published: PublishedImage, *rest: Any, **more: Any
    ) -> DiskImage:
        made = build(tools, store, published, *rest, **more)
        image = Image.model_validate_json(published.image_text)
        extract_grub(tools, store.open_blob(image.installer.digest), tmp_path)
        replace_grub(made.path, tmp_path)
        replaced.append(made.path)
        return made

    monkeypatch.setattr(boot_test, "build_disk", build_and_replace)
    tested = boot_test.boot_test(
        settings, open_store(settings), "lab", "0.1.0", RecordingReporter(), firmware=Firmware.BIOS
    )
    assert replaced
    assert tested.predicate["passed"]
