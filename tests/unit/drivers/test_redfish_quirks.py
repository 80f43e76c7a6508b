"""What vendors do differently, and what the Redfish driver makes of it. The cases are those of facts: flashing, 5, and of sushy's notes."""

from typing import Any

import pytest
from sushy.resources.system.system import System

from flash.drivers import BootOverride, BootSource, OverrideEnabled
from flash.drivers.redfish import RedfishDriver
from qtrade.errors import HostError
from tests.unit.drivers.test_redfish import MEDIA, SYSTEM, Access, Answer, FakeBmc

pytestmark = pytest.mark.unit

URL = "http://192.0.2.1:8080/a1b2/ipxe.efi"
SETTINGS = f"{SYSTEM}/Settings"
ALLOWED = "BootSourceOverrideTarget@Redfish.AllowableValues"


class Vendor(FakeBmc):
    """A BMC whose documents can be changed. `changes` go into a document when it is read, `settings` is a second place for Boot."""

    def __init__(self) -> None:
        super().__init__()
        self.boot[ALLOWED] += ["UefiHttp", "UsbCd"]
        self.boot["HttpBootUri"] = None
        self.changes: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, Any] | None = None

    def _documents(self) -> dict[str, Any]:
        documents = super()._documents()
        if self.settings is not None:
            documents[SYSTEM]["@Redfish.Settings"] = {"SettingsObject": {"@odata.id": SETTINGS}}
            documents[SETTINGS] = {"Boot": self.settings}
        for path, change in self.changes.items():
            documents[path] = {**documents.get(path, {}), **change}
        return documents

    def patch(self, path: str, *, data: dict[str, Any], **more: Any) -> Answer:
        if path == SETTINGS:
            self.calls.append("PATCH settings")
            assert self.settings is not None
            self.settings.update(self.on_patch(data["Boot"]))
            return Answer({}, 204)
        return super().patch(path, data=data, **more)


@pytest.fixture
def bmc() -> Vendor:
    return Vendor()


@pytest.fixture
def driver(bmc: Vendor) -> RedfishDriver:
    return RedfishDriver(Access(), connect=lambda _: (System(bmc, SYSTEM), lambda: None))


def test_http_boot_takes_the_url_and_reads_it_back(driver: RedfishDriver, bmc: Vendor) -> None:
    assert driver.boot_http_once(URL) == BootOverride(BootSource.UEFI_HTTP, OverrideEnabled.ONCE, URL)
    assert bmc.boot["BootSourceOverrideMode"] == "UEFI"
    driver.clear_boot_override()
    assert not driver.boot_override().is_set


def test_http_boot_by_the_settings_resource(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.settings = {key: bmc.boot.pop(key) for key in ("HttpBootUri",)} | {
        "BootSourceOverrideTarget": "None",
        "BootSourceOverrideEnabled": "Disabled",
    }
    assert driver.boot_http_once(URL) == BootOverride(BootSource.UEFI_HTTP, OverrideEnabled.ONCE, URL)
    assert "PATCH settings" in bmc.calls
    assert bmc.settings["HttpBootUri"] == URL
    # The system itself shows it only once it has booted.
    assert bmc.boot["BootSourceOverrideTarget"] == "None"
    driver.clear_boot_override()
    assert not driver.boot_override().is_set


def test_dell_has_no_place_for_the_url(driver: RedfishDriver, bmc: Vendor) -> None:
    del bmc.boot["HttpBootUri"]
    bmc.changes[SYSTEM] = {"Manufacturer": "Dell Inc."}
    with pytest.raises(HostError, match=r"\(Dell Inc\.\) cannot be told what to boot by HTTP") as caught:
        driver.boot_http_once(URL)
    assert "HttpBootUri" in caught.value.details
    assert "virtual_media" in caught.value.resolution
    assert bmc.calls == []


def test_a_bmc_without_http_boot_says_what_it_has(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.boot[ALLOWED] = ["None", "Pxe", "Hdd"]
    with pytest.raises(HostError, match="cannot be told") as caught:
        driver.boot_http_once(URL)
    assert "UEFI_HTTP" in caught.value.details


def test_a_url_that_is_dropped_is_an_error(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.on_patch = lambda boot: {**boot, "HttpBootUri": None}
    with pytest.raises(HostError, match="did not keep it") as caught:
        driver.boot_http_once(URL)
    assert "no URL" in caught.value.details


def test_supermicro_boots_media_by_another_name(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.changes[SYSTEM] = {"Manufacturer": "Supermicro"}
    assert driver.boot_once(BootSource.CD).target is BootSource.CD
    assert bmc.boot["BootSourceOverrideTarget"] == "UsbCd"


def test_a_bmc_that_cannot_disable_is_set_to_the_disk(driver: RedfishDriver, bmc: Vendor) -> None:
    driver.boot_once(BootSource.PXE)
    bmc.on_patch = lambda boot: {**boot, "BootSourceOverrideEnabled": "Continuous"}
    driver.clear_boot_override()
    assert driver.boot_override() == BootOverride(BootSource.HDD, OverrideEnabled.CONTINUOUS)
    calls = len(bmc.calls)
    driver.clear_boot_override()
    assert len(bmc.calls) == calls


def test_media_of_a_bmc_that_leaves_inserted_out(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.changes[f"{MEDIA}/Cd"] = {"Inserted": None}
    driver.insert("http://x/a.iso")
    driver.insert("http://x/b.iso")
    driver.eject()
    assert bmc.image is None
    assert [call.split()[1] for call in bmc.calls] == ["InsertMedia", "EjectMedia", "InsertMedia", "EjectMedia"]


def test_media_that_shows_its_path_only(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.changes[f"{MEDIA}/Cd"] = {"Image": "/images/a.iso", "Inserted": False}
    driver.insert("http://x/images/a.iso")
    bmc.changes[f"{MEDIA}/Cd"] = {"Image": "/images/other.iso", "Inserted": False}
    with pytest.raises(HostError, match=r"but shows /images/other\.iso"):
        driver.insert("http://x/images/a.iso")
    bmc.changes[f"{MEDIA}/Cd"] = {"Image": None, "Inserted": False}
    with pytest.raises(HostError, match="but shows no disc"):
        driver.insert("http://x/images/a.iso")


def test_a_disc_that_stays_in_is_an_error(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.changes[f"{MEDIA}/Cd"] = {"Inserted": True, "Image": "http://x/a.iso"}
    with pytest.raises(HostError, match="keeps the disc in"):
        driver.eject()


def test_media_of_the_system_where_managers_have_none(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.changes["/redfish/v1/Managers/1"] = {"VirtualMedia": None}
    bmc.changes[SYSTEM] = {"VirtualMedia": {"@odata.id": MEDIA}}
    driver.insert("http://x/a.iso")
    assert bmc.image == "http://x/a.iso"


def test_a_bmc_without_a_cd_drive(driver: RedfishDriver, bmc: Vendor) -> None:
    bmc.changes[MEDIA] = {"Members": []}
    with pytest.raises(HostError, match="has no virtual CD drive"):
        driver.insert("http://x/a.iso")
