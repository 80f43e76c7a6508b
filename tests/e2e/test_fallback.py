"""A version that does not come up, on UEFI: the tiny guest falls back by itself to the version that ran."""

from pathlib import Path

import pytest

from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.torture.power_cuts import check_health
from tests.torture.tiny_guest import tiny_guest
from tests.torture.tiny_image import make_images

pytestmark = pytest.mark.e2e


def test_a_version_whose_init_exits_falls_back(settings: Settings, image_010: str, tmp_path: Path) -> None:
    assert image_010
    (tmp_path / "images").mkdir()
    (tmp_path / "guest").mkdir()
    images = make_images(settings, tmp_path / "images", "AX", broken="X")
    with tiny_guest(settings, images, tmp_path / "guest", firmware=Firmware.UEFI) as guest:
        guest.install("A")
        guest.start()
        check_health(guest, guest.hello(), {"A"})
        guest.run(guest.stage("X"))
        armed = guest.run(guest.jobs.arm(guest.image_id("X")))["status"]
        assert (armed["default"], armed["once"]) == (guest.image_id("A"), guest.image_id("X"))
        begin = guest.console.stat().st_size
        guest.reboot()
        status = guest.hello()
        check_health(guest, status, {"A"})
        assert (status["default"], status["once"]) == (guest.image_id("A"), "")
        console = guest.console.read_bytes()[begin:]
    assert b"qtrade: grub once" in console, "the broken version was never tried"
    assert b"Kernel panic" in console
    assert b"UEFI" in console
