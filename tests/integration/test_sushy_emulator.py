"""The Redfish driver against a BMC that is not ours: sushy-tools' emulator, its own process on loopback, with its fake driver.

What the driver reports is compared with the emulator's own state: what it tells its external notifier, which is where it hands over
what a real machine would have to do.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from flash.drivers import BootSource, OverrideEnabled, PowerState
from flash.drivers.redfish import RedfishDriver
from flash.lab.host import BmcAccess
from qtrade.errors import HostError
from tests.fakes.sushy_emulator import USER, UUID, emulator

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DISC = b"a disc" * 5000


class Outside:
    """A web server that has the disc, and takes what the emulator tells its notifier of."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = DISC if self.path == "/installer.iso" else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self) -> None:
                owner.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Emulator:
    """The running emulator: how to reach it, and what it has told."""

    access: BmcAccess
    outside: Outside
    log: Path
    taken: int = field(default=0)

    def state(self) -> dict[str, Any]:
        """Return what the emulator holds of its system now."""
        return self.outside.told[-1]

    def powers(self) -> list[str]:
        """Return the power states that it went through since the last call."""
        new, self.taken = self.outside.told[self.taken :], len(self.outside.told)
        return [one["power_state"] for one in new]


@pytest.fixture(name="emulator")
def running(tmp_path: Path) -> Iterator[Emulator]:
    with Outside() as outside, emulator(tmp_path / "bmc", EXTERNAL_NOTIFICATION_URL=outside.url) as made:
        access = BmcAccess(made.url, f"/redfish/v1/Systems/{UUID}", USER, made.password_file)
        yield Emulator(access, outside, made.log)


@pytest.fixture
def driver(emulator: Emulator) -> Iterator[RedfishDriver]:
    with RedfishDriver(emulator.access) as made:
        yield made


def test_power_is_really_switched_and_seen(emulator: Emulator, driver: RedfishDriver) -> None:
    """The emulator takes seconds for each change: what the driver returns after is what the emulator came to."""
    assert driver.power_state() is PowerState.OFF
    driver.power_on()
    assert emulator.state()["power_state"] == "On"
    assert "On" in emulator.powers()
    driver.power_cycle()
    powers = emulator.powers()
    assert powers.index("Off") < len(powers) - 1
    assert powers[-1] == "On"
    driver.power_off()
    assert emulator.state()["power_state"] == "Off"
    count = emulator.log.read_text().count('power state set to "ForceOff"')
    driver.power_off()
    assert emulator.log.read_text().count('power state set to "ForceOff"') == count, "it was switched off twice"


@pytest.mark.parametrize("source", [BootSource.PXE, BootSource.CD])
def test_a_boot_override_is_read_back_and_cleared(
    emulator: Emulator, driver: RedfishDriver, source: BootSource
) -> None:
    """This BMC turns Once into Continuous, and cannot disable an override: the driver sets it back to the disk."""
    override = driver.boot_once(source)
    assert (override.target, override.enabled) == (source, OverrideEnabled.CONTINUOUS)
    assert emulator.state()["boot_device"] == source.value
    assert driver.boot_override().target is source
    driver.clear_boot_override()
    assert emulator.state()["boot_device"] == "Hdd"
    assert driver.boot_override().target is BootSource.HDD


def test_http_boot_that_this_bmc_cannot_do_is_an_error(emulator: Emulator, driver: RedfishDriver) -> None:
    """Its fake machine keeps no URL to boot from, and it answers so."""
    with pytest.raises(HostError, match="could not make the next boot fetch"):
        driver.boot_http_once(f"{emulator.outside.url}/installer.iso")
    driver.clear_boot_override()
    assert emulator.state().get("boot_device", "Hdd") == "Hdd"


def test_a_disc_is_inserted_and_ejected(emulator: Emulator, driver: RedfishDriver) -> None:
    url = f"{emulator.outside.url}/installer.iso"
    driver.insert(url)
    path, is_protected, is_in = emulator.state()["boot_image"]["Cd"]
    assert (is_protected, is_in) == (True, True)
    assert Path(path).read_bytes() == DISC
    driver.insert(url)
    assert Path(emulator.state()["boot_image"]["Cd"][0]).read_bytes() == DISC
    driver.eject()
    assert emulator.state()["boot_image"]["Cd"][::2] == [None, False]
    driver.eject()


def test_a_disc_that_cannot_be_fetched_is_an_error(emulator: Emulator, driver: RedfishDriver) -> None:
    with pytest.raises(HostError, match="insert"):
        driver.insert(f"{emulator.outside.url}/nothing.iso")
    assert not any(one.get("boot_image") for one in emulator.outside.told)


def test_a_wrong_password_is_said(emulator: Emulator) -> None:
    emulator.access.password_file.write_text("another")
    with RedfishDriver(emulator.access) as driver, pytest.raises(HostError) as caught:
        driver.power_state()
    assert "password" in caught.value.resolution
    assert emulator.outside.told == []
