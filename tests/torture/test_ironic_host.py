"""A lab host deployed by a real Ironic: its `redfish` hardware type and virtual media, on the lab's BMC, through the door `ironic`."""

from collections.abc import Iterator
from typing import Any

import pytest

from flash.drivers import BootSource
from flash.lab import host as lab
from flash.lab.boot import load_state
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.fakes.ironic_service import RunningIronic, as_operator, ironic
from tests.rigs import LabRig, changed_manifest, make_rig, qtrade_json

pytestmark = [
    pytest.mark.torture,
    # openstacksdk says of itself what it will drop.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningIronic]:
    with ironic(settings, tmp_path_factory.mktemp("ironic")) as running:
        yield running


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str, service: RunningIronic) -> Iterator[LabRig]:
    """A blank host that only Ironic reaches: its manifest names no BMC but that which Ironic is to enrol it with."""
    assert image_010
    rig = make_rig(settings, "ironic-1", Firmware.BIOS)
    bmc = rig.host.access
    enrol = {"address": bmc.url, "system": bmc.system, "username": bmc.username, "password": "env:LAB_BMC"}
    driver = {"kind": "ironic", "node": rig.name, "url": service.url, "enrol": enrol}
    with changed_manifest(rig, driver=driver, doors=["in_place", "ironic"]):
        yield rig
    lab.down(settings, rig.name, wipe=True)


@pytest.fixture
def admin(service: RunningIronic) -> Iterator[Any]:
    with as_operator(service) as baremetal:
        yield baremetal


def flash(rig: LabRig) -> dict[str, Any]:
    """Flash 0.1.0 through Ironic; return the evidence."""
    secret = rig.host.paths.password.read_text().strip()
    options = ("--host", rig.name, "--version", "0.1.0", "--door", "ironic", "--yes")
    result = qtrade_json("flash", *options, env={"LAB_BMC": secret})
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert (result["state"], evidence["door"]) == ("COMMITTED", "ironic")
    return evidence


def is_at_rest(rig: LabRig, admin: Any) -> None:
    """Neither BMC nor Ironic has anything left that boots the installer, or that may write to the host."""
    state = load_state(rig.host.paths)
    assert (state.medium_url, state.override.target) == (None, BootSource.HDD)
    node = admin.get_node(rig.name)
    assert (node.provision_state, node.deploy_interface, node.instance_info) == ("active", "custom-agent", {})
    assert (node.is_protected, node.is_automated_clean_enabled, node.is_maintenance) == (True, False, False)
    facts = rig.host.facts
    assert node.properties["root_device"]["serial"] == f"s== {facts.os_disk.serial}"
    skipped = [entry["serial"] for entry in node.properties["skip_block_devices"]]
    assert skipped == [f"s== {facts.ledger.serial}", f"s== {facts.data.serial}"]


@pytest.mark.timeout(3000)
def test_ironic_enrols_and_deploys_a_blank_host(rig: LabRig, admin: Any) -> None:
    ledger, begin = rig.ledger_sha256(), rig.host.console.offset()
    evidence = flash(rig)
    assert evidence["provision_states"] == ["enroll", "manageable", "manageable", "available", "active"]
    assert evidence["inspected"]["memory_mb"] == rig.host.facts.memory_mib
    assert rig.ledger_sha256() == ledger
    # By the proof of our own agent: Ironic's ran nowhere.
    assert [row["serial"] for row in evidence["protected"]][:1] == [rig.host.facts.ledger.serial]
    assert all(row["before"] == row["after"] for row in evidence["protected"])
    console = rig.host.console.read(begin)
    assert console.count("Command line:") <= 4
    assert "boot=installer" in console
    assert "qtrade: FAIL" not in console
    assert rig.sh("uname -s") == "Linux"
    is_at_rest(rig, admin)


@pytest.mark.timeout(3000)
def test_a_host_that_ironic_deployed_is_deployed_again(rig: LabRig, admin: Any) -> None:
    """From `active` and protected: the flash takes the protection off, and puts it on again."""
    ledger = rig.ledger_sha256()
    assert admin.get_node(rig.name).is_protected
    evidence = flash(rig)
    assert evidence["provision_states"] == ["active", "available", "active"]
    assert evidence["provider_lock"] is True
    assert rig.ledger_sha256() == ledger
    is_at_rest(rig, admin)
