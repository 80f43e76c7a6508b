"""The lab image as a whole disk boots by itself on BIOS and UEFI."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrade.machine.machine import find_qemu, running_machine
from qtrade.machine.spec import Disk, Firmware, MachineSpec
from qtrade.settings import Settings
from qtrade.toolsroot import ToolsRoot, open_tools
from tests.rigs import qtrade

pytestmark = pytest.mark.torture

LAYOUT = ("--system-mib", "2048", "--state-mib", "512")
ESP_OFFSET = 2 << 20
STATE_OFFSET = (2 + 128 + 2048) << 20


@pytest.fixture(scope="module")
def disk(settings: Settings, image_010: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The exported image."""
    assert image_010
    folder = tmp_path_factory.mktemp("export")
    qtrade("images", "export", "0.1.0", "--output", "qcow2", "--to", str(folder), *LAYOUT)
    yield folder / "lab_0.1.0.qcow2"
    shutil.rmtree(folder)


@pytest.mark.parametrize("firmware", list(Firmware))
def test_disk_image_boots_without_any_config(
    firmware: Firmware, disk: Path, settings: Settings, image_010: str, tmp_path: Path
) -> None:
    """It comes up, makes its own machine-id and SSH host key, and its journal says that the image runs and that nothing failed."""
    tools = open_tools(settings)
    # Raw, so that what the guest has flushed can be read while it runs.
    mine = tmp_path / "disk.raw"
    tools.run("qemu-img", "convert", "-O", "raw", disk, mine)
    uefi_vars = tmp_path / "vars.fd"
    shutil.copyfile(tools.root / "usr/share/OVMF/OVMF_VARS_4M.fd", uefi_vars)
    spec = MachineSpec(
        name="disk-image",
        console=tmp_path / "console.log",
        memory_mib=2048,
        firmware=firmware,
        uefi_vars=uefi_vars if firmware is Firmware.UEFI else None,
        disks=(Disk(mine, "disk-image", boot_index=1, is_volatile=True),),
    )
    with running_machine(spec, find_qemu(settings, tools), tmp_path / "machine") as machine:
        console = machine.console
        console.wait_for("login:", fails="qtrade: FAIL|Kernel panic", timeout_s=600, is_alive=machine.is_running)
        wait_until_up(tools, mine)
        machine.press_power_button()
        assert machine.wait(180), f"the guest did not heed the power button: {console.read()[-2000:]}"
    state = f"{mine}?offset={STATE_OFFSET}"
    journal = read_journal(tools, state, tmp_path)
    assert f"image {image_010} is stacked (checked by sha256, state persistent, config none)" in journal
    assert "Reached target multi-user.target" in journal
    assert "Failed with result" not in journal
    assert len(tools.run("debugfs", "-R", "cat /host/machine-id", state).stdout.strip()) == 32
    assert tools.run("debugfs", "-R", "cat /host/ssh_host_ed25519_key.pub", state).stdout.startswith("ssh-ed25519 ")


def wait_until_up(tools: ToolsRoot, disk: Path) -> None:
    """Wait until the last unit of multi-user.target has taken the boot, which GRUB counted, off the count again."""
    deadline = time.monotonic() + 300
    while "tries=\n" not in tools.run("mtype", "-i", f"{disk}@@{ESP_OFFSET}", "::grub/once").stdout:
        assert time.monotonic() < deadline, "the boot still counts as a failed one"
        time.sleep(1)
    time.sleep(5)  # the target itself, and the journal's line about it


def read_journal(tools: ToolsRoot, state: str, folder: Path) -> str:
    tools.run("debugfs", "-R", f"rdump /var/log/journal {folder}", state)
    argv = ["journalctl", "--no-pager", "-q", "-D", str(folder / "journal")]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
