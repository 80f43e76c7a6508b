"""What Ironic is told of a host: root device hints, skipped disks, enrolment, and the way through its states."""

import builtins
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flash.drivers import HostLock, PowerControl, ServiceDeploy, driver_for, ironic_node
from flash.drivers.ironic_node import ENDS, Standing, Verb, next_verb, root_device, skipped_disks, standing
from qtrade.errors import BadInput, Refused, ToolError
from qtrade.manifest import Host
from qtrade.manifest.driver import Door, IronicDriver
from tests.fakes.examples import make_host

pytestmark = pytest.mark.unit

GIB = 1 << 30
BMC = {"address": "https://192.0.2.9", "system": "/redfish/v1/Systems/1", "username": "admin", "password": "env:BMC"}
IRONIC: dict[str, Any] = {"kind": "ironic", "node": "rpc-1", "url": "http://192.0.2.1:6385", "enrol": BMC}
NETBOOT = {"port": 8080, "url": "http://192.0.2.1:8080", "mac": "52:54:00:00:00:01", "trusted_network": True}


def ironic_host(**changes: Any) -> Host:
    fields: dict[str, Any] = {
        "driver": IRONIC,
        "doors": ["in_place", "ironic"],
        "netboot": NETBOOT,
        "os_disk": {"serial": "OS1", "size_bytes": 12 * GIB},
        "protected_disks": [{"serial": "LEDGER", "wwid": "eui.0025385b71b0a1c2"}],
        "data_disks": [{"serial": "DATA", "mount": "/mnt/data"}],
    }
    return make_host(**{**fields, **changes})


@pytest.mark.parametrize(
    ("disk", "hints"),
    [
        ({"serial": "S 1", "size_bytes": 12 * GIB}, {"serial": "s== S 1", "size": "== 12"}),
        ({"serial": "S1", "size_bytes": 12 * GIB + 1}, {"serial": "s== S1", "size": ">= 12"}),
        ({"serial": "S1", "size_bytes": GIB - 1}, {"serial": "s== S1"}),
        ({"serial": "S1", "wwid": "naa.5000c500a1b2c3d4"}, {"serial": "s== S1", "wwn": "s== 0x5000c500a1b2c3d4"}),
        (
            {"wwid": "naa.600508b1001c16aa00112233445566aa", "pci_path": "0000:01:00.0"},
            {"wwn_with_extension": "s== 0x600508b1001c16aa00112233445566aa"},
        ),
        ({"serial": "S1", "wwid": "eui.0025385b71b0a1c2"}, {"serial": "s== S1", "wwn": "s== eui.0025385b71b0a1c2"}),
        ({"serial": "S1", "wwid": "t10.ATA     Disk 1"}, {"serial": "s== S1"}),
    ],
)
def test_hints_of_the_os_disk(disk: dict[str, Any], hints: dict[str, Any]) -> None:
    assert root_device(ironic_host(os_disk=disk, protected_disks=[], data_disks=[])) == hints


@pytest.mark.parametrize(
    "disk", [{"size_bytes": GIB, "pci_path": "0000:01:00.0"}, {"wwid": "t10.ATA Disk", "size_bytes": GIB}]
)
def test_a_disk_that_ironic_cannot_know_is_refused_as_it_would_take_another(disk: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="neither serial nor wwid") as caught:
        root_device(ironic_host(os_disk=disk))
    assert "os_disk.serial" in caught.value.resolution


def test_each_name_of_a_kept_disk_is_skipped_by_itself() -> None:
    """All hints of one entry must fit; a name that another system spells otherwise must not make the entry miss the disk."""
    assert skipped_disks(ironic_host()) == [
        {"serial": "s== LEDGER"},
        {"wwn": "s== eui.0025385b71b0a1c2"},
        {"serial": "s== DATA"},
    ]


_SERIALS = st.lists(st.text("ABCDEFGH0123456789_-", min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


@given(_SERIALS, st.integers(1, 1 << 45))
def test_no_kept_disk_is_ever_in_the_hints_and_each_is_skipped(serials: list[str], size: int) -> None:
    first, *kept = serials
    host = ironic_host(
        os_disk={"serial": first, "size_bytes": size}, protected_disks=[{"serial": one} for one in kept], data_disks=[]
    )
    assert root_device(host)["serial"] == f"s== {first}"
    assert [entry["serial"] for entry in skipped_disks(host)] == [f"s== {one}" for one in kept]


def test_a_host_is_enrolled_so_that_nothing_cleans_it_and_nothing_boots_by_itself() -> None:
    host = ironic_host()
    assert isinstance(host.driver, IronicDriver)
    assert ironic_node.enrolment(host.driver, host, "a secret") == {
        "name": "rpc-1",
        "driver": "redfish",
        "driver_info": {
            "redfish_address": "https://192.0.2.9",
            "redfish_system_id": "/redfish/v1/Systems/1",
            "redfish_username": "admin",
            "redfish_password": "a secret",
            "redfish_verify_ca": True,
        },
        "boot_interface": "redfish-virtual-media",
        "deploy_interface": "custom-agent",
        "inspect_interface": "redfish",
        "is_automated_clean_enabled": False,
        "properties": {"root_device": root_device(host), "skip_block_devices": skipped_disks(host)},
    }


def test_what_is_written_to_a_node() -> None:
    host = ironic_host()
    patch = ironic_node.disks_patch({"cpus": 4}, host)
    assert {one["path"]: one["value"] for one in patch} == {
        "/properties/root_device": root_device(host),
        "/properties/skip_block_devices": skipped_disks(host),
        "/automated_clean": False,
    }
    told = {"root_device": root_device(host), "skip_block_devices": skipped_disks(host)}
    assert [one["path"] for one in ironic_node.disks_patch(told, host)] == ["/automated_clean"]
    armed = {one["path"]: one["value"] for one in ironic_node.arming_patch("http://192.0.2.1/x.iso")}
    assert armed["/deploy_interface"] == "ramdisk"
    assert armed["/instance_info"] == {
        "boot_iso": "http://192.0.2.1/x.iso",
        "ramdisk_image_download_source": "http",
    }
    rest = {one["path"]: one["value"] for one in ironic_node.resting_patch()}
    assert rest == {"/instance_info": {}, "/deploy_interface": "custom-agent"}


def test_a_host_that_ironic_does_not_know_needs_a_way_to_its_bmc() -> None:
    host = ironic_host(driver={**IRONIC, "enrol": None})
    assert isinstance(host.driver, IronicDriver)
    with pytest.raises(BadInput, match="Ironic knows no node rpc-1") as caught:
        ironic_node.enrolment(host.driver, host, None)
    assert "driver.enrol" in caught.value.resolution


@pytest.mark.parametrize("state", ["enroll", "manageable", "available", "active", "deploy failed", "inspect failed"])
def test_every_way_to_a_deployment_ends(state: str) -> None:
    passed = []
    while (verb := next_verb(state)) is not Verb.DEPLOY:
        passed.append(verb)
        state = ENDS[verb]
        assert len(passed) < 4, f"it goes round: {passed}"


@pytest.mark.parametrize(
    "state",
    ["cleaning", "clean wait", "clean failed", "deleting", "error", "rescue", "servicing", "adopting", "new one"],
)
def test_what_others_do_to_a_node_is_theirs_to_end(state: str) -> None:
    assert standing(state) is Standing.OTHERS
    with pytest.raises(Refused, match=state):
        next_verb(state)


@pytest.mark.parametrize("state", ["deploying", "wait call-back", "verifying"])
def test_a_node_that_is_being_worked_on_is_refused(state: str) -> None:
    with pytest.raises(Refused, match="is being worked on"):
        next_verb(state)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cloud": "home"}, "exactly one of url"),
        ({"url": None}, "exactly one of url"),
        ({"username": "me"}, "belong together"),
        ({"url": None, "cloud": "home", "username": "me", "password": "env:X"}, "belong together"),
        ({"enrol": {"address": "https://192.0.2.9"}}, "hardware redfish needs"),
        ({"password": "plain words", "username": "me"}, "pattern"),
    ],
)
def test_a_manifest_that_leads_nowhere_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ironic_host(driver={**IRONIC, **changes})


def test_the_driver_opens_its_own_door_only() -> None:
    with pytest.raises(ValidationError, match="does not open door virtual_media"):
        ironic_host(doors=["virtual_media"])
    assert Door.IRONIC in ironic_host().doors
    with pytest.raises(ValidationError, match="needs netboot"):
        ironic_host(netboot=None)


def test_abilities() -> None:
    driver = driver_for(ironic_host().driver, lambda _: "")
    for ability in (PowerControl, ServiceDeploy, HostLock):
        assert isinstance(driver, ability)


def test_without_openstacksdk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "openstack":
            raise ModuleNotFoundError(f"No module named {name!r}", name="openstack")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    driver = driver_for(ironic_host().driver, lambda _: "")
    assert isinstance(driver, PowerControl)
    with pytest.raises(ToolError, match="needs openstacksdk") as caught:
        driver.power_state()
    assert caught.value.resolution == "install it: pip install 'qtrade[ironic]'"
