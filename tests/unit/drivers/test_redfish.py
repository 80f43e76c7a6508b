"""The Redfish driver over sushy, against documents as a BMC sends them, held by a fake of sushy's connector."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
import sushy
from sushy.resources.system.system import System

from flash.drivers import (
    BootControl,
    BootOverride,
    BootSource,
    HttpBoot,
    OverrideEnabled,
    PowerControl,
    PowerState,
    VirtualMedia,
)
from flash.drivers.redfish import RedfishDriver, connect_system
from qtrade.errors import BadInput, HostError

pytestmark = pytest.mark.unit

SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
MEDIA = "/redfish/v1/Managers/1/VirtualMedia"


@dataclass(frozen=True)
class Access:
    url: str = "http://bmc.test"
    system: str = SYSTEM
    username: str = "admin"
    password_file: Path = Path("/nonexistent/password")
    verify_tls: bool = True


class Answer:
    """What sushy needs of a response."""

    def __init__(self, document: Any, status_code: int = 200) -> None:
        self.document = document
        self.status_code = status_code
        self.headers: dict[str, str] = {}
        self.content = b"{}"

    def json(self) -> Any:
        return json.loads(json.dumps(self.document))


class FakeBmc:
    """A connector of sushy: documents by path. What a vendor does differently is set from outside."""

    def __init__(self) -> None:
        self.boot: dict[str, Any] = {
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd", "Cd"],
        }
        self.power = "Off"
        self.stale_reads = 0
        self.image: str | None = None
        self.calls: list[str] = []
        self.on_patch: Callable[[dict[str, Any]], dict[str, Any]] = lambda boot: boot
        self.failure: Exception | None = None
        self._pending: str | None = None

    def get(self, path: str = "", **_: Any) -> Answer:
        if self.failure:
            raise self.failure
        if path == SYSTEM and self._pending:
            self.stale_reads -= 1
            if self.stale_reads < 0:
                self.power, self._pending = self._pending, None
        return Answer(self._documents()[path.rstrip("/")])

    def patch(self, path: str, *, data: dict[str, Any], **_: Any) -> Answer:
        self.calls.append(f"PATCH {json.dumps(data['Boot'], sort_keys=True)}")
        self.boot.update(self.on_patch(data["Boot"]))
        return Answer({}, 204)

    def post(self, path: str, *, data: dict[str, Any] | None = None, **_: Any) -> Answer:
        self.calls.append(f"POST {path.rsplit('.', 1)[-1]} {json.dumps(data)}")
        if path == RESET and data is not None:
            self._pending = "Off" if data["ResetType"] == "ForceOff" else "On"
        elif path.endswith("InsertMedia") and data is not None:
            self.image = data["Image"]
        elif path.endswith("EjectMedia"):
            self.image = None
        return Answer({}, 204)

    def _documents(self) -> dict[str, Any]:
        def members(*paths: str) -> dict[str, Any]:
            return {"Name": "x", "Members": [{"@odata.id": path} for path in paths]}

        actions = {
            f"#VirtualMedia.{n}Media": {"target": f"{MEDIA}/Cd/VirtualMedia.{n}Media"} for n in ("Insert", "Eject")
        }
        reset = {"target": RESET, "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}
        return {
            SYSTEM: {
                "Id": "1",
                "PowerState": self.power,
                "Boot": self.boot,
                "Actions": {"#ComputerSystem.Reset": reset},
                "Links": {"ManagedBy": [{"@odata.id": "/redfish/v1/Managers/1"}]},
            },
            "/redfish/v1/Managers/1": {"Id": "1", "VirtualMedia": {"@odata.id": MEDIA}},
            MEDIA: members(f"{MEDIA}/Usb", f"{MEDIA}/Cd"),
            f"{MEDIA}/Usb": {"Id": "Usb", "Name": "USB", "MediaTypes": ["USBStick"]},
            f"{MEDIA}/Cd": {
                "Id": "Cd",
                "Name": "CD",
                "MediaTypes": ["CD", "DVD"],
                "Image": self.image,
                "Inserted": self.image is not None,
                "Actions": actions,
            },
        }


@pytest.fixture
def bmc() -> FakeBmc:
    return FakeBmc()


@pytest.fixture
def driver(bmc: FakeBmc) -> RedfishDriver:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return RedfishDriver(
        Access(),
        connect=lambda _: (System(bmc, SYSTEM), lambda: bmc.calls.append("log out")),
        clock=lambda: now[0],
        sleep=sleep,
    )


def test_it_has_all_four_abilities(driver: RedfishDriver) -> None:
    assert isinstance(driver, PowerControl)
    assert isinstance(driver, BootControl)
    assert isinstance(driver, VirtualMedia)
    assert isinstance(driver, HttpBoot)


def test_power_on_waits_until_it_is_seen(driver: RedfishDriver, bmc: FakeBmc) -> None:
    bmc.stale_reads = 5
    driver.power_on()
    assert (bmc.power, bmc.calls) == ("On", ['POST Reset {"ResetType": "On"}'])
    driver.power_on()
    assert len(bmc.calls) == 1


def test_power_that_never_changes_ends_at_the_deadline(driver: RedfishDriver, bmc: FakeBmc) -> None:
    bmc.stale_reads = 100_000
    with pytest.raises(HostError, match="did not switch the host on") as caught:
        driver.power_on()
    assert "180 s ago" in caught.value.details


def test_power_cycle_goes_through_off(driver: RedfishDriver, bmc: FakeBmc) -> None:
    bmc.power = "On"
    bmc.stale_reads = 2
    driver.power_cycle()
    assert bmc.calls == ['POST Reset {"ResetType": "ForceOff"}', 'POST Reset {"ResetType": "On"}']
    assert driver.power_state() is PowerState.ON


def test_it_logs_out_once_and_can_come_back(driver: RedfishDriver, bmc: FakeBmc) -> None:
    with driver:
        driver.power_state()
    driver.close()
    assert bmc.calls == ["log out"]
    assert driver.power_state() is PowerState.OFF


def test_unknown_words_are_unknown(driver: RedfishDriver, bmc: FakeBmc) -> None:
    bmc.power = "Paused"
    assert driver.power_state() is PowerState.UNKNOWN


def test_override_is_read_back_and_cleared(driver: RedfishDriver, bmc: FakeBmc) -> None:
    assert driver.boot_once(BootSource.PXE) == BootOverride(BootSource.PXE, OverrideEnabled.ONCE)
    driver.clear_boot_override()
    assert not driver.boot_override().is_set
    calls = len(bmc.calls)
    driver.clear_boot_override()
    assert len(bmc.calls) == calls


def test_once_that_is_kept_for_ever_is_shown(driver: RedfishDriver, bmc: FakeBmc) -> None:
    bmc.on_patch = lambda boot: {**boot, "BootSourceOverrideEnabled": "Continuous"}
    assert driver.boot_once(BootSource.PXE).enabled is OverrideEnabled.CONTINUOUS
    bmc.on_patch = lambda boot: boot
    driver.clear_boot_override()
    assert not driver.boot_override().is_set


def test_an_override_that_does_not_hold_is_an_error(driver: RedfishDriver, bmc: FakeBmc) -> None:
    bmc.on_patch = lambda _: {}
    with pytest.raises(HostError, match="did not keep it"):
        driver.boot_once(BootSource.PXE)


def test_an_override_that_cannot_be_cleared_is_an_error(driver: RedfishDriver, bmc: FakeBmc) -> None:
    driver.boot_once(BootSource.CD)
    bmc.on_patch = lambda _: {}
    with pytest.raises(HostError, match="keeps its boot override"):
        driver.clear_boot_override()


def test_a_source_that_the_bmc_lacks_is_an_error(driver: RedfishDriver) -> None:
    with pytest.raises(HostError, match="UefiHttp"):
        driver.boot_once(BootSource.UEFI_HTTP)


def test_media_go_into_the_cd_drive(driver: RedfishDriver, bmc: FakeBmc) -> None:
    driver.insert("http://x/a.iso")
    driver.insert("http://x/b.iso")
    assert bmc.image == "http://x/b.iso"
    driver.eject()
    driver.eject()
    assert [call.split()[1] for call in bmc.calls] == ["InsertMedia", "EjectMedia", "InsertMedia", "EjectMedia"]


def fail_access() -> Exception:
    return sushy.exceptions.AccessError("GET", SYSTEM, Answer({}, 401))


def fail_connection() -> Exception:
    return sushy.exceptions.ConnectionError(url="http://bmc.test", error="refused")


@pytest.mark.parametrize(
    ("failure", "said"),
    [(fail_access, "not logged in"), (fail_connection, "could not read"), (requests.Timeout, "could not read")],
)
def test_failures_become_our_errors(
    driver: RedfishDriver, bmc: FakeBmc, failure: Callable[[], Exception], said: str
) -> None:
    bmc.failure = failure()
    with pytest.raises(HostError, match=said) as caught:
        driver.power_state()
    assert caught.value.resolution


def test_a_missing_password_file_is_named() -> None:
    with pytest.raises(BadInput, match="/nonexistent/password cannot be read"):
        connect_system(Access())


def test_the_password_never_shows(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    (tmp_path / "password").write_text(secret)

    def connect(_: object) -> NoReturn:
        with pytest.raises(sushy.exceptions.ConnectionError):
            connect_system(Access(url="not-a-url", password_file=tmp_path / "password"))
        raise requests.ConnectionError(f"http://admin:{secret}@bmc.test refused")

    with pytest.raises(HostError) as caught:
        RedfishDriver(Access(), connect=connect).power_state()
    assert secret not in caught.value.render()
    assert "***" in caught.value.details
