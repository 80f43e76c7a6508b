"""Break an installed version, and see a host fall back."""

import os
import struct
import time
from pathlib import Path

from flash.drivers.redfish import RedfishDriver
from flash.inventory import load_host
from qtrade.toolsroot import open_tools
from tests.rigs import LabRig, qtrade

LABELS = ("bios_boot", "qtrade-esp", "qtrade-system", "qtrade-state")


def arm(rig: LabRig, version: str) -> str:
    """Flash up to ARMED, so that the next boot is the broken one; return the boot_id."""
    qtrade("flash", "--host", rig.name, "--version", version, "--yes", "--until", "ARMED")
    status = rig.link.status()
    assert status["once"]
    return str(status["boot_id"])


def expect_fallback(rig: LabRig, version: str, image_010: str, boot_id: str) -> None:
    """Let the armed flash go on, and see it end with 0.1.0 healthy."""
    begin = rig.host.console.offset()
    with RedfishDriver(load_host(rig.settings, rig.name).driver) as driver:
        driver.power_on()
    done = qtrade("flash", "--host", rig.name, "--version", version, "--yes", check=False)
    assert done.returncode == 9, done.stderr
    assert "fell back" in done.stderr
    assert "ROLLED_BACK" in done.stderr
    console = rig.host.console.read(begin)
    assert "qtrade: grub once" in console, "the broken version was never tried"
    status = rig.link.status()
    assert (status["image"], status["default"], status["once"]) == (image_010, image_010, "")
    assert status["boot_id"] != boot_id
    for _ in range(60):
        if rig.sh("systemctl is-system-running", check=False) == "running":
            break
        time.sleep(2)
    assert rig.sh("systemctl is-system-running") == "running"


def partition_offset(rig: LabRig, label: str) -> int:
    """Return where a partition of the OS disk begins, in bytes."""
    with rig.host.paths.os_disk.open("rb") as disk:
        disk.seek(1024 + LABELS.index(label) * 128 + 32)
        return int(struct.unpack("<Q", disk.read(8))[0]) * 512


def edit_system(rig: LabRig, folder: Path, command: str) -> str:
    """Run a debugfs command on the system partition of a host that is off; return what it says."""
    offset = partition_offset(rig, "qtrade-system")
    tools = open_tools(rig.settings)
    disk = f"{rig.host.paths.os_disk}?offset={offset}"
    # After a power cut the journal is replayed first, as a mount would.
    script = folder / "debugfs"
    script.write_text(f"{command}\n")
    done = tools.run("debugfs", "-w", "-f", script, disk)
    assert "not found" not in done.stderr, done.stderr
    return done.stdout


def flip_byte(rig: LabRig, folder: Path, path: str) -> None:
    """Alter one byte of the EROFS superblock of a blob, where it lies on the disk."""
    offset = partition_offset(rig, "qtrade-system")
    blocks = edit_system(rig, folder, f"blocks {path}").split("\n")
    block = int(next(word for word in " ".join(blocks).split() if word.isdigit()))
    with rig.host.paths.os_disk.open("r+b") as disk:
        disk.seek(offset + block * 4096 + 1024)
        found = disk.read(1)
        disk.seek(-1, os.SEEK_CUR)
        disk.write(bytes([found[0] ^ 0xFF]))
