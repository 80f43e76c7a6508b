"""The doors of a UEFI host: a disc, kexec, and the firmware's own HTTP boot at a path of one flash."""

from collections.abc import Iterator

import pytest

from flash.lab import host as lab
from flash.lab.boot import load_state
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.rigs import LabRig, changed_manifest, make_rig, qtrade_json

pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A blank UEFI host."""
    assert image_010
    rig = make_rig(settings, "doors-2", Firmware.UEFI)
    with changed_manifest(rig, doors=["virtual_media", "kexec", "uefi_http"]):
        yield rig
    lab.down(settings, rig.name, wipe=True)


@pytest.mark.parametrize("door", ["virtual_media", "kexec", "uefi_http"])
def test_the_installer_boots_once_and_nothing_is_left_behind(rig: LabRig, door: str) -> None:
    ledger, begin = rig.ledger_sha256(), rig.host.console.offset()
    result = qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--door", door, "--yes")
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert (result["state"], evidence["door"]) == ("COMMITTED", door)
    assert rig.ledger_sha256() == ledger
    assert rig.sh("test -d /sys/firmware/efi && echo yes") == "yes"
    state = load_state(rig.host.paths)
    assert (state.medium_url, state.override.is_set) == (None, False)
    console = rig.host.console.read(begin)
    assert "boot=installer" in console
    assert "qtrade: FAIL" not in console
    assert ("qtrade.job=file:///qtrade/job.json" in console) is (door == "kexec")
