"""Boot order and overrides of the lab host."""

from pathlib import Path

import pytest

from flash.drivers import BootOverride, BootSource, OverrideEnabled
from flash.lab.boot import BoardState, after_start, boot_order, build_spec, load_state, save_state
from flash.lab.facts import LabPaths, LabPorts, new_facts
from qtrade.machine.spec import Firmware, TapNetwork, UserNetwork

pytestmark = pytest.mark.unit

HDD, PXE, CD = BootSource.HDD, BootSource.PXE, BootSource.CD
FACTS = new_facts("lab-1", firmware=Firmware.UEFI, memory_mib=512, cpus=2, ports=LabPorts(4022, 4080, 4081))


@pytest.mark.parametrize(
    ("override", "order"),
    [
        (BootOverride(), (HDD, PXE, CD)),
        (BootOverride(PXE, OverrideEnabled.DISABLED), (HDD, PXE, CD)),
        (BootOverride(PXE, OverrideEnabled.ONCE), (PXE, HDD, CD)),
        (BootOverride(CD, OverrideEnabled.CONTINUOUS), (CD, HDD, PXE)),
        (BootOverride(HDD, OverrideEnabled.ONCE), (HDD, PXE, CD)),
        (BootOverride(BootSource.UEFI_HTTP, OverrideEnabled.ONCE), (PXE, HDD, CD)),
    ],
)
def test_boot_order(override: BootOverride, order: tuple[BootSource, ...]) -> None:
    assert boot_order(override) == order


def test_once_is_used_up_and_continuous_is_not() -> None:
    assert after_start(BootOverride(PXE, OverrideEnabled.ONCE)) == BootOverride()
    always = BootOverride(PXE, OverrideEnabled.CONTINUOUS)
    assert after_start(always) == always


def test_spec_follows_the_override(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path)
    state = BoardState(BootOverride(CD, OverrideEnabled.ONCE), medium_url="http://x/i.iso")
    spec = build_spec(FACTS, paths, state)
    assert [disk.boot_index for disk in spec.disks] == [2, None, None]
    assert spec.nic is not None
    assert spec.cdrom is not None
    assert (spec.cdrom.path, spec.cdrom.boot_index, spec.nic.boot_index) == (paths.medium, 1, 3)
    assert isinstance(spec.nic.network, UserNetwork)
    assert spec.nic.network.boot_file == "http://10.0.2.2:4081/ipxe.efi"
    assert not spec.disks[1].is_read_only


def test_http_boot_uri_is_the_boot_file(tmp_path: Path) -> None:
    override = BootOverride(BootSource.UEFI_HTTP, OverrideEnabled.ONCE, "http://10.0.2.2:1/x.efi")
    spec = build_spec(FACTS, LabPaths(tmp_path), BoardState(override))
    assert spec.nic is not None
    assert isinstance(spec.nic.network, UserNetwork)
    assert spec.nic.network.boot_file == "http://10.0.2.2:1/x.efi"


def test_state_survives_a_restart_of_the_bmc(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path)
    assert load_state(paths) == BoardState()
    state = BoardState(BootOverride(PXE, OverrideEnabled.ONCE), "http://x/i.iso", TapNetwork("tap0", "scan"))
    save_state(paths, state)
    assert load_state(paths) == state
    paths.board.write_text("{damaged")
    assert load_state(paths) == BoardState()
