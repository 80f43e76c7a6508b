"""Every provider's driver against its fake: what it does to the machine, what it waits for, and what it can do at all."""

import base64
import time

import pytest

from flash.drivers import (
    BootControl,
    HostLock,
    HttpBoot,
    IpxeBoot,
    PowerControl,
    PowerState,
    Reinstall,
    RescueMode,
    VirtualMedia,
    driver_for,
)
from flash.drivers.ironic import IronicDriver
from flash.drivers.redfish import RedfishDriver
from qtrade.errors import HostError, Refused
from qtrade.manifest import driver as manifest
from qtrade.manifest.driver import OPENS, Door
from qtrade.redaction import redact
from tests.unit.drivers.providers import FAKES, KEY, connected

pytestmark = pytest.mark.unit

ABILITIES = {
    "latitude": {PowerControl, RescueMode, IpxeBoot, Reinstall, HostLock},
    "teraswitch": {PowerControl, IpxeBoot, Reinstall},
    "cherry": {PowerControl, RescueMode, IpxeBoot, Reinstall},
    "phoenixnap": {PowerControl, IpxeBoot},
    "ssh": set(),
    "redfish": {PowerControl, BootControl, VirtualMedia, HttpBoot},
    "ironic": {PowerControl, HostLock},
}
ALL = (PowerControl, BootControl, VirtualMedia, HttpBoot, RescueMode, IpxeBoot, Reinstall, HostLock)
SCRIPT = "http://192.0.2.1:8080/a1b2/boot.ipxe"
WIPERS = ("latitude", "teraswitch", "cherry")


def abilities_of(driver: object) -> set[type]:
    return {ability for ability in ALL if isinstance(driver, ability)}


@pytest.mark.parametrize("kind", FAKES)
def test_a_driver_has_just_the_abilities_that_its_api_has(kind: str) -> None:
    with connected(kind) as case:
        assert abilities_of(case.driver) == ABILITIES[kind]


def test_the_drivers_without_a_provider() -> None:
    ssh = driver_for(manifest.SshDriver(kind="ssh"), lambda _: "")
    with ssh:
        assert abilities_of(ssh) == ABILITIES["ssh"]
    assert abilities_of(RedfishDriver.__new__(RedfishDriver)) == ABILITIES["redfish"]
    assert abilities_of(IronicDriver.__new__(IronicDriver)) == ABILITIES["ironic"]


@pytest.mark.parametrize("kind", OPENS)
def test_a_manifest_opens_a_door_only_where_the_driver_can(kind: str) -> None:
    needed = {
        Door.RESCUE: RescueMode,
        Door.PROVIDER_IPXE: IpxeBoot,
        Door.PROVIDER_REINSTALL: Reinstall,
        Door.VIRTUAL_MEDIA: VirtualMedia,
        Door.UEFI_HTTP: HttpBoot,
        Door.PXE: BootControl,
    }
    if kind == "ssh":  # its rescue system is one that a person booted
        needed.pop(Door.RESCUE)
    assert {needed[door] for door in OPENS[kind] if door in needed} <= ABILITIES[kind]


@pytest.mark.parametrize("kind", FAKES)
def test_power(kind: str) -> None:
    with connected(kind) as case:
        assert case.driver.power_state() is PowerState.ON
        case.driver.power_on()
        assert case.machine.done == []
        case.driver.power_cycle()
        assert case.machine.done == ["power off", "power on"]
        case.driver.power_off()
        assert (case.machine.is_on, case.driver.power_state()) == (False, PowerState.OFF)
        case.driver.power_off()
        assert case.machine.done == ["power off", "power on", "power off"]
        assert any("switch off: Off" in line for line in case.said)


@pytest.mark.parametrize("kind", FAKES)
def test_power_waits_out_an_old_status(kind: str) -> None:
    with connected(kind, stale_s=0.2) as case:
        case.driver.power_cycle()
        case.provider.settle()
        assert case.machine.done == ["power off", "power on"]
        assert case.machine.is_on


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize("stale_s", [0.0, 0.2])
def test_ipxe_returns_once_the_provider_began(kind: str, stale_s: float) -> None:
    with connected(kind, stale_s=stale_s) as case:
        began = time.monotonic()
        case.driver.boot_ipxe(SCRIPT)
        assert time.monotonic() - began >= stale_s
        case.provider.settle()
        assert case.machine.running == SCRIPT
        wiped = ["wipe"] if kind in WIPERS else []
        assert case.machine.done == [*wiped, f"boot {SCRIPT}"]
        assert (case.machine.disk == "empty") is manifest.wipes(kind, Door.PROVIDER_IPXE)


@pytest.mark.parametrize("kind", WIPERS)
@pytest.mark.parametrize("stale_s", [0.0, 0.2])
def test_reinstall_ends_with_a_new_system(kind: str, stale_s: float) -> None:
    with connected(kind, stale_s=stale_s) as case:
        user = case.driver.reinstall(hostname="rpc-1", public_key=KEY)
        # With an old status believed, this would be asked before the provider began.
        assert case.machine.disk == "stock system"
        assert case.machine.done == ["reinstall rpc-1 for 1 keys"]
        assert user == ("debian" if kind == "latitude" else "root")
        posts = len(case.provider.requests())
        case.driver.reinstall(hostname="rpc-1", public_key=KEY + "-again")
        assert len(case.provider.requests()) == posts + 1, "a key that is there is not added again"


@pytest.mark.parametrize("kind", ["latitude", "cherry"])
@pytest.mark.parametrize("stale_s", [0.0, 0.2])
def test_rescue_there_and_back(kind: str, stale_s: float) -> None:
    with connected(kind, stale_s=stale_s) as case:
        login = case.driver.enter_rescue(KEY)
        assert (case.machine.running, login.user, login.host_keys) == ("rescue", "root", ())
        case.driver.leave_rescue()
        assert case.machine.running == "disk"
        case.driver.leave_rescue()
        kinds = "with" if kind == "cherry" else "without"
        assert case.machine.done == [f"rescue {kinds} a password", "boot the disk"]


@pytest.mark.parametrize("kind", ["latitude", "cherry"])
def test_a_rescue_system_from_before_does_not_pass_for_this_one(kind: str) -> None:
    with connected(kind) as case:
        first = case.driver.enter_rescue(KEY)
        second = case.driver.enter_rescue(KEY)
        assert [each.partition(" ")[0] for each in case.machine.done] == ["rescue", "boot", "rescue"]
        assert kind != "cherry" or first.password != second.password


def test_cherry_hides_the_password_that_it_makes() -> None:
    with connected("cherry") as case:
        password = case.driver.enter_rescue(KEY).password
        assert password == case.provider.rescue_password
        assert redact(f"x{password}x") == "x***x"


def test_cherry_chains_to_our_script() -> None:
    with connected("cherry") as case:
        case.driver.boot_ipxe(SCRIPT)
        (_, body), *_ = case.provider.requests()
        assert base64.b64decode(body["ipxe"]).decode() == f"#!ipxe\ndhcp ||\nchain {SCRIPT}\n"


def test_latitude_keeps_no_netboot() -> None:
    with connected("latitude") as case:
        case.driver.boot_ipxe(SCRIPT)
        (_, body), *_ = case.provider.requests()
        fields = {"operating_system": "ipxe", "ipxe": SCRIPT, "persistent_netboot": False}
        assert body == {"data": {"type": "reinstalls", "attributes": fields}}


def test_latitude_lock_holds_against_us_too() -> None:
    with connected("latitude") as case:
        case.driver.unlock()
        case.driver.lock()
        case.driver.lock()
        assert case.driver.is_locked()
        with pytest.raises(Refused, match="the server is locked at the provider"):
            case.driver.power_cycle()
        with pytest.raises(Refused, match="locked"):
            case.driver.boot_ipxe(SCRIPT)
        case.driver.unlock()
        assert (case.driver.is_locked(), case.machine.done) == (False, [])
        assert [path.rsplit("/", 1)[-1] for path, _ in case.provider.requests()] == ["lock", "unlock"]


def test_latitude_says_where_rescue_is_not_allowed() -> None:
    with connected("latitude") as case:
        case.provider.rescue_allowed = False
        with pytest.raises(Refused, match="does not allow it for this server"):
            case.driver.enter_rescue(KEY)
        assert case.provider.requests() == []


def test_latitude_failed_deployment_is_an_error_and_an_old_one_is_not() -> None:
    with connected("latitude") as case:
        case.provider.fails_deployment = True
        with pytest.raises(HostError, match="reinstall: failed_deployment"):
            case.driver.reinstall(hostname="rpc-1", public_key=KEY)
        case.provider.fails_deployment = False
        assert case.provider.status == "failed_deployment"
        case.driver.reinstall(hostname="rpc-1", public_key=KEY)
        assert case.machine.done == ["reinstall rpc-1 for 1 keys"] * 2


def test_teraswitch_repeats_region_tier_and_name() -> None:
    with connected("teraswitch") as case:
        case.driver.boot_ipxe(SCRIPT)
        (path, body), *_ = case.provider.requests()
        assert path == "/v2/Metal/1042/Reinstall"
        assert body == {"regionId": "EWR1", "tierId": "7443p-256g", "displayName": "rpc-1", "ipxeUrl": SCRIPT}


def test_phoenixnap_switches_on_before_it_reboots() -> None:
    with connected("phoenixnap", is_on=False) as case:
        case.driver.boot_ipxe(SCRIPT)
        case.provider.settle()
        assert case.machine.done == ["power on", f"boot {SCRIPT}"]
        assert case.machine.disk == "old system"
