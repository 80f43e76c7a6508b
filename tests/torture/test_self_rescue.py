"""What a host does about its own faults with nobody there: a hung image, a damaged config, state that is full or broken, boots that fail.

The BMC switches the host on after a power cut, and does nothing else.
"""

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from flash.drivers.redfish import RedfishDriver
from flash.inventory import load_host
from flash.lab import host as lab
from qtrade.machine.spec import Firmware
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.toolsroot import open_tools
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import LabRig, make_rig, qtrade, qtrade_json, read_manifest
from tests.torture.faults import partition_offset

pytestmark = pytest.mark.torture

# PID 1 that crashes freezes: it feeds the watchdog no more, and no unit is started or ended. The kernel lives on.
HANG = {
    "etc/systemd/system/hang.service": "[Service]\nExecStart=/bin/sh -c 'echo \"<2>HANGS NOW\" >/dev/kmsg; kill -SEGV 1'\n",
    "etc/systemd/system/multi-user.target.d/hang.conf": "[Unit]\nWants=hang.service\n",
}
# Root fills the state partition to the last block, reserve and all, when a file asks for it, and gives it back.
FILL = {
    "etc/systemd/system/fill.path": "[Path]\nPathExists=/var/tmp/fill\n",
    "etc/systemd/system/fill.service": (
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'rm /var/tmp/fill; "
        "fallocate -l $$(($$(stat -f -c %%f*%%S /var) - 1048576)) /var/filler; dd if=/dev/zero of=/var/filler2 bs=4k; sync'\n"
    ),
    "etc/systemd/system/empty.path": "[Path]\nPathExists=/run/qtrade-empty/now\n",
    "etc/systemd/system/empty.service": "[Service]\nType=oneshot\nExecStart=/bin/rm -f /run/qtrade-empty/now /var/filler /var/filler2\n",
    "usr/lib/tmpfiles.d/empty.conf": "d /run/qtrade-empty 1777 root root -\n",
    "etc/systemd/system/multi-user.target.d/fill.conf": "[Unit]\nWants=fill.path empty.path\n",
}


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A host of its own, flashed with 0.1.0."""
    made = make_rig(settings, "rescue-1", Firmware.BIOS)
    before = made.ledger_sha256()
    result = qtrade_json("flash", "--host", made.name, "--version", "0.1.0", "--yes")
    assert (result["state"], result["image"]) == ("COMMITTED", image_010)
    yield made
    assert made.ledger_sha256() == before, "the ledger disk was changed"
    lab.down(settings, made.name, wipe=True)


def power_off(rig: LabRig) -> None:
    """Let the host switch itself off, so that its filesystems are clean."""
    rig.sh("sudo -n systemctl poweroff", check=False)
    wait_until(lambda: lab.status(rig.settings, rig.name).qemu_pid is None, "the host is off")


def wait_until(is_so: Callable[[], bool], what: str, *, within_s: float = 180) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(2)


def push_tag(rig: LabRig, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Push a value that no push before had."""
    document = read_manifest(rig)
    document["config"]["datadog_tags"] = [f"push:{secrets.token_hex(4)}"]
    rig.host.paths.manifest.write_text(yaml.safe_dump(document, sort_keys=False))
    return qtrade("push", "--host", rig.name, "--yes", check=check)


def power_on(rig: LabRig) -> None:
    with RedfishDriver(load_host(rig.settings, rig.name).driver) as driver:
        driver.power_on()


def wait_for_boot(rig: LabRig, old_boot_id: str) -> dict[str, object]:
    return rig.link.wait_for_status(lambda now: now["boot_id"] != old_boot_id, within_s=420, what="a boot")


def edit(rig: LabRig, folder: Path, label: str, *commands: str) -> str:
    """Run debugfs on a partition of a host that is off."""
    script = folder / "debugfs"
    script.write_text("\n".join([*commands, ""]))
    disk = f"{rig.host.paths.os_disk}?offset={partition_offset(rig, label)}"
    return open_tools(rig.settings).run("debugfs", "-w", "-f", script, disk).stdout


def board_log(rig: LabRig) -> list[str]:
    """Return what the BMC's board did and was asked for."""
    return [line for line in rig.host.paths.bmc_log.read_text().splitlines() if "board:" in line]


def test_the_flash_record_proves_that_no_other_disk_was_touched(rig: LabRig, settings: Settings) -> None:
    """The ledger and the data disk, with the agent's signed report behind it."""
    journal = max((settings.state_dir / "flashes" / rig.name).glob("*.jsonl")).read_text()
    facts = rig.host.facts
    verified = next(line for line in journal.splitlines() if '"VERIFIED"' in line)
    for disk in (facts.ledger, facts.data):
        assert disk.serial in verified
    assert '"retries": 0' in verified


def test_a_hung_image_falls_back_by_its_watchdog(
    rig: LabRig, settings: Settings, image_010: str, tmp_path: Path
) -> None:
    made = publish_variant(settings, "0.9.0", top=extra_layer(settings, tmp_path, HANG))
    begin, before, board_begin = rig.host.console.offset(), rig.link.status(), len(board_log(rig))
    done = qtrade("flash", "--host", rig.name, "--version", "0.9.0", "--yes", check=False)
    assert done.returncode == 9, done.stderr
    assert "fell back" in done.stderr
    console = rig.host.console.read(begin)
    assert "qtrade: grub once" in console, "the version that hangs was never tried"
    assert made.id in "".join(console.split()), "GRUB named another image"
    assert "HANGS NOW" in console, "it did not hang"
    # The board's timer ended it, once; nobody reset it or switched it off and on.
    board = board_log(rig)[board_begin:]
    assert [line for line in board if "watchdog" in line] == ["board: watchdog expired: reset"], board
    assert not [line for line in board if "asked for" in line], board
    # Two starts by the guest's own resets: the flash's reboot into the version that hangs, and the timer's back.
    assert board.count("board: guest went down: guest-reset") == board.count("board: machine starts") == 2
    status = rig.link.status()
    assert (status["image"], status["default"], status["once"]) == (image_010, image_010, "")
    assert status["boot_id"] != before["boot_id"]


def test_a_damaged_config_generation_gives_way_to_the_last_good_one(rig: LabRig, tmp_path: Path) -> None:
    first = str(rig.link.status()["generation"])
    push_tag(rig)
    status = rig.link.status()
    second = str(status["generation"])
    assert (first != second, status["config"]) == (True, "whole")
    power_off(rig)
    edit(rig, tmp_path, "qtrade-state", f"rm /config/{second}/hostname")
    power_on(rig)
    after = wait_for_boot(rig, str(status["boot_id"]))
    assert (after["generation"], after["config"], after["state"]) == (first, "fell_back", "persistent")
    assert rig.sh("systemctl is-system-running --wait", check=False) == "running"
    push_tag(rig)
    assert int(str(rig.link.status()["generation"])) > int(second)


def test_a_full_state_partition_refuses_a_push_with_figures_and_boots(
    rig: LabRig, settings: Settings, tmp_path: Path
) -> None:
    publish_variant(settings, "0.9.1", top=extra_layer(settings, tmp_path, FILL))
    result = qtrade_json("flash", "--host", rig.name, "--version", "0.9.1", "--yes")
    assert result["state"] == "COMMITTED"
    before = rig.link.status()
    rig.sh("touch /var/tmp/fill")
    # ext4 keeps 4096 blocks back from root, too.
    wait_until(lambda: int(rig.sh("stat -f -c %f /var")) < 4096 + 8, "the state partition is full")
    done = push_tag(rig, check=False)
    assert done.returncode != 0
    assert "qtrade-state" in done.stderr
    assert "Traceback" not in done.stderr
    assert rig.link.status()["generation"] == before["generation"]
    rig.sh("sudo -n systemctl reboot", check=False)
    after = wait_for_boot(rig, str(before["boot_id"]))
    assert (after["state"], after["generation"], after["config"]) == ("persistent", before["generation"], "whole")
    rig.sh("touch /run/qtrade-empty/now")
    wait_until(lambda: int(rig.sh("stat -f -c %a /var")) > 1000, "the state partition has room again")
    push_tag(rig)


def test_three_failed_boots_lead_to_the_previous_image(rig: LabRig, image_010: str, tmp_path: Path) -> None:
    before = rig.link.status()
    assert (before["version"], before["previous"], before["default"]) == ("0.9.1", image_010, before["image"])
    layer = Image.model_validate_json(LocalStore(rig.settings.store).read("lab", "0.9.1").image_text).layers[-1].digest
    power_off(rig)
    begin = rig.host.console.offset()
    edit(rig, tmp_path, "qtrade-system", f"rm /layers/{layer}.erofs")
    power_on(rig)
    status = wait_for_boot(rig, str(before["boot_id"]))
    assert (status["image"], status["default"]) == (image_010, before["image"])
    assert rig.host.console.read(begin).count("missing layer extra") == 3
    qtrade("rollback", "--host", rig.name, "--yes")
    assert rig.link.status()["default"] == image_010


def test_a_broken_state_partition_boots_with_the_services_down(rig: LabRig, tmp_path: Path) -> None:
    """Last: nothing is left of the state. Nobody can log in without it, so the host is judged by its console."""
    lab.cut_power(rig.settings, rig.name)
    offset = partition_offset(rig, "qtrade-state")
    with rig.host.paths.os_disk.open("r+b") as disk:
        disk.seek(offset)
        disk.write(os.urandom(1 << 20))
        # The copies of the superblock too: e2fsck would mend it from one of them.
        for group in (1, 3, 5, 7, 9, 25, 27, 49):
            disk.seek(offset + group * 32768 * 4096)
            disk.write(os.urandom(1 << 16))
    begin = rig.host.console.offset()
    power_on(rig)
    rig.host.console.wait_for("cannot be used: volatile state", offset=begin, timeout_s=300)
    wait_until(lambda: "login:" in rig.host.console.read(begin), "the host is up")
    console = rig.host.console.read(begin)
    assert "qtrade: FAIL" not in console
    assert "Started agave-validator" not in console
