"""The whole chain on a blank BIOS host, asserted from inside the flashed guest; then in place, rollback, faults."""

import json
import os
import struct
import time
from pathlib import Path

import pytest

from flash.drivers import driver_for
from flash.inventory import load_host
from flash.lab import host as lab
from qtrade.settings import Settings
from qtrade.toolsroot import open_tools
from tests.e2e.conftest import LabRig, qtrade, qtrade_json
from tests.e2e.images import changed_project, extra_layer, other_kernel, publish_variant

pytestmark = pytest.mark.e2e

SECRET = "0123456789abcdef0123456789abcdef"  # shaped like a Datadog key
PARTITION_3 = 2  # index in the partition table


def test_flashed_host_runs_the_image_from_layers(bios: LabRig, image_010: str) -> None:
    status = bios.link.status()
    assert status["image"] == image_010
    assert status["verified"] == "verity"
    assert status["state"] == "persistent"
    assert status["upper"] == [], "something wrote to the root during a clean boot"
    assert status["failed_boots"] == 0
    root = bios.sh("findmnt -n -o FSTYPE,OPTIONS /")
    assert root.startswith("overlay")
    lowers = root.split("lowerdir=")[1].split(",")[0].split(":")
    assert len(lowers) == 8
    layers = bios.sh("findmnt -n -t erofs -o OPTIONS").splitlines()
    assert len(layers) == 8
    assert all("ro" in options.split(",") for options in layers)
    assert bios.sh("systemctl is-system-running") == "running"


def test_specs_of_all_seven_roles_ran_on_the_host(bios: LabRig) -> None:
    report = (bios.settings.state_dir / "specs" / bios.name / "report.xml").read_text()
    for role in ("bare_metal", "ufw_solana", "datadog", "geyser", "postgres", "agave", "qtrade_client"):
        assert f"roles.{role}.specs" in report


def test_push_changes_one_file_and_one_secret(bios: LabRig) -> None:
    manifest = bios.host.paths.manifest
    text = manifest.read_text()
    before = bios.sh("systemctl show -P ActiveEnterTimestampMonotonic agave-validator.service")
    changed = text.replace("config:\n", "config:\n  datadog_tags: ['team:e2e']\n", 1)
    changed = changed.replace("secrets: {}", "secrets: {datadog_api_key: 'env:E2E_DATADOG_KEY'}")
    assert changed != text
    manifest.write_text(changed)
    done = qtrade("push", "--host", bios.name, "--json", env={"E2E_DATADOG_KEY": SECRET})
    result = json.loads(done.stdout)
    assert set(result["units"]) == {"datadog-agent.service", "otelcol-contrib.service"}
    assert SECRET not in done.stdout + done.stderr
    assert bios.sh("systemctl is-active datadog-agent.service otelcol-contrib.service").split() == ["active", "active"]
    assert bios.sh("systemctl show -P ActiveEnterTimestampMonotonic agave-validator.service") == before
    status = bios.link.status()
    assert status["generation"] == result["generation"]
    assert status["upper"] == []


def test_secret_is_readable_by_its_unit_only(bios: LabRig) -> None:
    # The stand-in agent says with its health that it has a key; nobody else can read it, in clear or at rest.
    assert bios.sh("systemctl is-active datadog-agent.service") == "active"
    for path in (
        "/run/credentials/datadog-agent.service/datadog_api_key",
        "/run/qtrade/state/credstore/datadog_api_key",
    ):
        assert bios.sh(f"cat {path} 2>&1; true").endswith("Permission denied")
    assert SECRET not in bios.sh("journalctl --no-pager -q")
    assert SECRET not in bios.sh("systemctl show datadog-agent.service otelcol-contrib.service")
    assert SECRET not in bios.sh("ps axeww")


def test_rows_written_now_are_there_after_the_next_flash(bios: LabRig) -> None:
    assert "qtrade" in bios.sh("psql -U qtrade_readonly -d qtrade -Atc 'select current_database()'")
    bios.sh("psql -U qtrade_readonly -d qtrade -Atc 'select count(*) from trades'")


def test_in_place_flash_sends_the_changed_layer_only(
    bios: LabRig, settings: Settings, image_010: str, tmp_path: Path
) -> None:
    def change(project: Path) -> None:
        template = next((project / "ansible/roles/qtrade_client").rglob("*.service*"))
        template.write_text(template.read_text().replace("[Unit]", "[Unit]\n# another byte or two", 1))

    project = changed_project(settings, tmp_path, change)
    baked = json.loads(qtrade("bake", "--version", "0.1.1", "--json", env={"QTRADE_PROJECT": str(project)}).stdout)
    assert baked["built"] == ["qtrade_client"]
    old, new = (json.loads(qtrade("images", "show", version).stdout) for version in ("0.1.0", "0.1.1"))
    changed = {layer["digest"]: layer["size"] for layer in new["layers"]} | {}
    for layer in old["layers"]:
        changed.pop(layer["digest"], None)
    assert len(changed) == 1
    result = qtrade_json("flash", "--host", bios.name, "--version", "0.1.1", "--yes")
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["door"] == "in_place"
    assert set(evidence["blobs_fetched"]) == set(changed)
    assert evidence["bytes_fetched"] <= sum(changed.values()) + 65536
    status = bios.link.status()
    assert (status["image"], status["previous"], status["once"]) == (new["id"], image_010, "")


def test_rollback_downloads_nothing(bios: LabRig, image_010: str) -> None:
    result = qtrade_json("rollback", "--host", bios.name, "--yes")
    assert (result["version"], result["bytes_fetched"]) == ("0.1.0", 0)
    status = bios.link.status()
    assert (status["image"], status["default"]) == (image_010, image_010)
    assert bios.sh("psql -U qtrade_readonly -d qtrade -Atc 'select count(*) from trades'").isdigit()


def arm(rig: LabRig, version: str) -> str:
    """Flash up to ARMED, so that the next boot is the broken one; return the boot_id."""
    qtrade("flash", "--host", rig.name, "--version", version, "--yes", "--until", "ARMED")
    status = rig.link.status()
    assert status["once"]
    return str(status["boot_id"])


def expect_fallback(rig: LabRig, version: str, image_010: str, boot_id: str) -> None:
    """Let the armed flash go on, and see it end with 0.1.0 healthy."""
    begin = rig.host.console.offset()
    driver_for(load_host(rig.settings, rig.name).driver).power_on()
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


def system_partition(rig: LabRig) -> tuple[int, int]:
    """Return offset and size in bytes of the third partition of the OS disk."""
    with rig.host.paths.os_disk.open("rb") as disk:
        disk.seek(1024 + PARTITION_3 * 128 + 32)
        first, last = struct.unpack("<QQ", disk.read(16))
    return first * 512, (last - first + 1) * 512


def edit_system(rig: LabRig, folder: Path, command: str) -> str:
    """Run a debugfs command on the system partition of a host that is off; return what it says."""
    offset, _ = system_partition(rig)
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
    offset, _ = system_partition(rig)
    blocks = edit_system(rig, folder, f"blocks {path}").split("\n")
    block = int(next(word for word in " ".join(blocks).split() if word.isdigit()))
    with rig.host.paths.os_disk.open("r+b") as disk:
        disk.seek(offset + block * 4096 + 1024)
        found = disk.read(1)
        disk.seek(-1, os.SEEK_CUR)
        disk.write(bytes([found[0] ^ 0xFF]))
