"""Our driver against a real Ironic with its fake hardware: the deployment by its `ramdisk` interface, its states, and what goes wrong.

Power and boot devices are Ironic's fakes; API, conductor, state machine, locks, validation and deploy interfaces are its own. Each
fault is one of the service itself: a disc that is not there, a conductor that holds the node, a deployment that nobody ends.
"""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest

from flash.drivers import PowerState
from flash.drivers.ironic import IronicDriver
from flash.drivers.ironic_node import root_device, skipped_disks
from flash.drivers.waiting import Pace, Waiting
from qtrade.errors import BadInput, HostError, NotFound, Refused
from qtrade.manifest import Host
from qtrade.settings import Settings
from tests.fakes.examples import make_host
from tests.fakes.ironic_service import PASSWORD, USER, RunningIronic, as_operator, ensure_ironic, ironic

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(900),
    # openstacksdk says of itself what it will drop.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

GIB = 1 << 30
DISC = b"a disc" * 1000
# What its fake hardware takes for each boot device: long enough to be seen while it works.
_DELAY_S = 2


class _Discs(http.server.BaseHTTPRequestHandler):
    """Has one disc, and nothing else."""

    def do_GET(self) -> None:
        found = self.path == "/installer.iso"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(DISC) if found else 0))
        self.end_headers()
        if found and self.command == "GET":
            self.wfile.write(DISC)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def discs() -> Iterator[str]:
    """Where the disc is served."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Discs) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningIronic]:
    """Ironic as it comes, but for its fakes being slow."""
    with ironic(settings, tmp_path_factory.mktemp("ironic"), delay_s=_DELAY_S) as running:
        yield running


_names = iter(range(1, 1000))


@pytest.fixture
def host(service: RunningIronic) -> Host:
    """A host that Ironic does not know yet."""
    return host_at(service.url)


def host_at(url: str | None, **driver: Any) -> Host:
    number = next(_names)
    fields = {"hardware": "fake-hardware", "boot_interface": "ipxe"}
    return make_host(
        name=f"rpc-{number}",
        driver={"kind": "ironic", "node": f"rpc-{number}", "url": url, "enrol": fields, **driver},
        doors=["in_place", "ironic"],
        netboot={"port": 8080, "url": "http://127.0.0.1:8080", "mac": f"52:54:00:00:00:{number:02x}"},
        os_disk={"serial": f"OS-{number}", "size_bytes": 12 * GIB + 1},
        protected_disks=[{"serial": f"LEDGER-{number}", "wwid": "eui.0025385b71b0a1c2"}],
        data_disks=[{"serial": f"DATA-{number}", "mount": "/mnt/data"}],
    )


def driver_of(host: Host, **times: float) -> IronicDriver:
    waiting = Waiting(pace=Pace(first_s=0.1, factor=1.1, longest_s=0.5))
    return IronicDriver(host.driver, lambda _: PASSWORD, waiting, **{"lock_s": 30.0, "state_s": 60.0, **times})


@pytest.fixture
def admin(service: RunningIronic) -> Iterator[Any]:
    with as_operator(service) as baremetal:
        yield baremetal


def node_of(admin: Any, host: Host) -> Any:
    return admin.get_node(host.driver.node)


def test_a_host_is_enrolled_deployed_and_left_so_that_ironic_writes_nothing(
    service: RunningIronic, admin: Any, host: Host, discs: str
) -> None:
    """The whole way, twice: enrolled, inspected, made available without cleaning, deployed; then once more from `active`."""
    with driver_of(host) as driver:
        assert driver.check_deploy(host)["provision_state"] == "not enrolled"
        assert not driver.is_locked()
        first = driver.deploy(host, f"{discs}/installer.iso")
        assert first["provision_states"] == ["enroll", "manageable", "manageable", "available", "active"]
        armed = node_of(admin, host)
        assert (armed.deploy_interface, armed.driver, armed.is_maintenance) == ("ramdisk", "fake-hardware", False)
        assert armed.instance_info["boot_iso"] == f"{discs}/installer.iso"
        assert armed.properties["root_device"] == root_device(host)
        assert armed.properties["skip_block_devices"] == skipped_disks(host)
        assert driver.power_state() is PowerState.ON
        driver.boot_from_disk()
    rest = node_of(admin, host)
    assert (rest.deploy_interface, rest.instance_info, rest.is_maintenance) == ("custom-agent", {}, False)
    assert rest.is_protected
    assert rest.is_automated_clean_enabled is False
    assert [port.address for port in admin.ports(node=rest.id)] == [host.netboot.mac if host.netboot else ""]
    with driver_of(host) as driver:
        assert driver.check_deploy(host)["provision_state"] == "active"
        driver.unlock()
        again = driver.deploy(host, f"{discs}/installer.iso")
        assert again["provision_states"] == ["active", "available", "active"]
        assert again["ironic_node"] == first["ironic_node"]
        driver.boot_from_disk()
    # The service cleans what says nothing else: it came to each cleaning, and left it out because of this node.
    skipped = [
        line for line in service.log.splitlines() if "Automated cleaning is disabled" in line and rest.id in line
    ]
    assert len(skipped) == 2
    assert "cleaning on node" not in service.log


def test_a_protected_node_is_written_by_nobody(admin: Any, host: Host, discs: str) -> None:
    """Ironic refuses to undeploy or rebuild it, us too, until its protection is taken off on purpose."""
    with driver_of(host) as driver:
        driver.deploy(host, f"{discs}/installer.iso")
        driver.boot_from_disk()
        assert driver.is_locked()
        with pytest.raises(openstack.exceptions.ForbiddenException, match="protected"):
            admin.set_node_provision_state(host.driver.node, "rebuild")
        with pytest.raises(Refused, match="the node is protected"):
            driver.deploy(host, f"{discs}/installer.iso")
        assert node_of(admin, host).provision_state == "active"
        driver.boot_from_disk()
        driver.unlock()
        assert not driver.is_locked()
        driver.lock()
        assert node_of(admin, host).protected_reason


def test_a_disc_that_is_not_there_fails_the_deployment_with_ironics_words(admin: Any, host: Host, discs: str) -> None:
    with driver_of(host) as driver:
        with pytest.raises(HostError, match="deploy failed") as caught:
            driver.deploy(host, f"{discs}/nothing.iso")
        assert "nothing.iso" in caught.value.details
        assert "goes on from there" in caught.value.resolution
        assert node_of(admin, host).provision_state == "deploy failed"
        driver.boot_from_disk()
        left = node_of(admin, host)
        assert (left.deploy_interface, left.instance_info, left.is_maintenance) == ("custom-agent", {}, False)
        # The same command goes on from there.
        assert driver.check_deploy(host)["provision_state"] == "deploy failed"
        assert driver.deploy(host, f"{discs}/installer.iso")["provision_states"] == ["deploy failed", "active"]


def test_a_deployment_that_takes_too_long_is_given_up_and_taken_up_again(admin: Any, host: Host, discs: str) -> None:
    with driver_of(host, state_s=0.2, lock_s=0.2) as driver:
        for _ in range(3):
            # Enrolled and made available in time; what its fakes delay is the deployment itself.
            node = admin.find_node(host.driver.node)
            if node is not None and node.provision_state == "deploying":
                break
            with pytest.raises(HostError, match="not seen within"):
                driver.deploy(host, f"{discs}/installer.iso")
        assert node_of(admin, host).provision_state == "deploying"
        with pytest.raises(Refused, match="locked by conductor conductor-1"):
            driver.boot_from_disk()
    with driver_of(host) as driver:
        driver.boot_from_disk()
        driver.unlock()
        assert driver.deploy(host, f"{discs}/installer.iso")["provision_states"][-1] == "active"


def test_what_ironics_own_deployment_left_is_gone_on_from(admin: Any, host: Host, discs: str) -> None:
    """Somebody had Ironic's own agent deploy the host, which never called back; Ironic gave up after its own deadline."""
    with driver_of(host) as driver:
        driver.deploy(host, f"{discs}/installer.iso")
        driver.boot_from_disk()
        driver.unlock()
    name = host.driver.node
    admin.set_node_provision_state(name, "deleted", wait=True, timeout=60)
    image = {"image_source": f"{discs}/installer.iso", "image_checksum": "0" * 64, "image_disk_format": "raw"}
    admin.update_node(name, deploy_interface="direct", boot_interface="fake", instance_info=image)
    admin.set_node_provision_state(name, "active")
    with pytest.raises(openstack.exceptions.ResourceFailure):
        admin.wait_for_nodes_provision_state([name], "active", timeout=60)
    failed = node_of(admin, host)
    assert failed.provision_state == "deploy failed"
    assert "timeout" in failed.last_error.lower()
    # What keeps Ironic's agent from these disks was there all the time.
    assert failed.properties["skip_block_devices"] == skipped_disks(host)
    admin.set_node_maintenance(name)
    admin.update_node(name, boot_interface="ipxe")
    admin.unset_node_maintenance(name)
    with driver_of(host) as driver:
        assert driver.deploy(host, f"{discs}/installer.iso")["provision_states"] == ["deploy failed", "active"]
    assert node_of(admin, host).deploy_interface == "ramdisk"


def test_a_node_that_another_conductor_holds_is_refused(service: RunningIronic, host: Host, discs: str) -> None:
    with driver_of(host, lock_s=0.3) as driver:
        driver.deploy(host, f"{discs}/installer.iso")
        driver.boot_from_disk()
        driver.unlock()
        service.hold(host.driver.node, "conductor-9")
        for act in (
            lambda: driver.check_deploy(host),
            lambda: driver.deploy(host, f"{discs}/installer.iso"),
            driver.power_off,
            driver.boot_from_disk,
        ):
            with pytest.raises(Refused, match="locked by conductor conductor-9"):
                act()
        service.hold(host.driver.node, None)
        assert driver.check_deploy(host)["provision_state"] == "active"


def test_maintenance_and_instances_of_others_are_refused(admin: Any, host: Host, discs: str) -> None:
    with driver_of(host) as driver:
        driver.deploy(host, f"{discs}/installer.iso")
        driver.boot_from_disk()
        admin.set_node_maintenance(host.driver.node, reason="new memory on Friday")
        for act in (lambda: driver.check_deploy(host), lambda: driver.deploy(host, f"{discs}/installer.iso")):
            with pytest.raises(Refused, match="in maintenance: new memory on Friday"):
                act()
        admin.unset_node_maintenance(host.driver.node)
        admin.update_node(host.driver.node, instance_id="3c2d1e8a-77e1-4b3f-9a57-0f2f6f1f9d11")
        with pytest.raises(Refused, match="instance 3c2d1e8a"):
            driver.check_deploy(host)
        admin.update_node(host.driver.node, instance_id=None)
        assert driver.check_deploy(host)["provision_state"] == "active"


def test_a_bmc_that_does_not_answer_leaves_the_node_enrolled_only(service: RunningIronic) -> None:
    """Ironic's own Redfish client, and nobody at that address."""
    nobody = {"address": "http://127.0.0.1:9", "system": "/redfish/v1/Systems/1", "username": "a", "password": "env:X"}
    host = host_at(service.url, enrol=nobody)
    with driver_of(host) as driver:
        with pytest.raises(HostError, match="manage: enroll") as caught:
            driver.deploy(host, "http://127.0.0.1:9/installer.iso")
        assert "127.0.0.1:9" in caught.value.details or "Failed" in caught.value.details
        assert driver.check_deploy(host)["provision_state"] == "enroll"


def test_a_card_that_another_node_has_is_refused(host: Host, discs: str, service: RunningIronic) -> None:
    with driver_of(host) as driver:
        driver.deploy(host, f"{discs}/installer.iso")
    other = host_at(service.url).model_copy(update={"netboot": host.netboot})
    with driver_of(other) as driver, pytest.raises(Refused, match="network card"):
        driver.deploy(other, f"{discs}/installer.iso")


def test_what_is_not_enabled_in_ironic_is_said_in_its_words(service: RunningIronic, discs: str) -> None:
    host = host_at(service.url, enrol={"hardware": "manual-management", "boot_interface": "ipxe"})
    with driver_of(host) as driver, pytest.raises(BadInput, match="enrol the node") as caught:
        driver.deploy(host, f"{discs}/installer.iso")
    assert "manual-management" in caught.value.details


def test_power_is_switched_and_seen(host: Host, discs: str) -> None:
    with driver_of(host) as driver:
        driver.deploy(host, f"{discs}/installer.iso")
        driver.power_off()
        assert driver.power_state() is PowerState.OFF
        driver.power_cycle()
        assert driver.power_state() is PowerState.ON


def test_credentials(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that asks for a password: right, wrong and none; the same by clouds.yaml; and one that is not there."""
    with ironic(settings, tmp_path / "ironic", auth="http_basic") as running:
        right = host_at(running.url, username=USER, password="env:IRONIC")
        with driver_of(right) as driver:
            assert driver.check_deploy(right)["provision_state"] == "not enrolled"
        wrong = IronicDriver(right.driver, lambda _: "another", Waiting())
        for refused in (wrong, driver_of(host_at(running.url))):
            with refused as driver, pytest.raises(BadInput, match="does not accept the credential") as caught:
                driver.check_deploy(right)
            assert PASSWORD not in caught.value.render()
        clouds = tmp_path / "clouds.yaml"
        auth = {"endpoint": running.url, "username": USER, "password": PASSWORD}
        cloud = {"auth_type": "http_basic", "auth": auth, "baremetal_endpoint_override": running.url}
        clouds.write_text(json.dumps({"clouds": {"metal": cloud}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
        with driver_of(host_at(None, cloud="metal")) as driver:
            assert driver.check_deploy(right)["provision_state"] == "not enrolled"
        with driver_of(host_at(None, cloud="other")) as driver, pytest.raises(BadInput, match="not configured"):
            driver.check_deploy(right)
    with driver_of(right) as driver, pytest.raises(HostError, match="does not answer"):
        driver.check_deploy(right)


_ASK_IPA = """
import json, sys
from ironic_python_agent import device_hints
told, disks = json.load(sys.stdin)
root = [d["name"] for d in device_hints.find_devices_by_hints(disks, told["root_device"])]
skip = {d["name"] for hint in told["skip_block_devices"] for d in device_hints.find_devices_by_hints(disks, hint)}
json.dump([root, sorted(skip)], sys.stdout)
"""


def test_ironics_own_agent_takes_our_hints_as_we_mean_them(settings: Settings) -> None:
    """The code by which Ironic's agent finds the root device and what it skips, on disks as udev shows them."""
    host = host_at("http://127.0.0.1:1").model_copy(deep=True)
    serial = str(host.os_disk.serial)
    disks = [
        {"name": "/dev/nvme0n1", "size": 12 * GIB + 1, "serial": serial, "wwn": "eui.00"},
        {"name": "/dev/nvme1n1", "size": 4000 * GIB, "serial": host.protected_disks[0].serial, "wwn": None},
        {"name": "/dev/nvme2n1", "size": 4000 * GIB, "serial": "spelled otherwise", "wwn": "eui.0025385b71b0a1c2"},
        {"name": "/dev/sda", "size": 900 * GIB, "serial": host.data_disks[0].serial, "wwn": "0x5000c500a1b2c3d4"},
        {"name": "/dev/sdb", "size": 12 * GIB + 1, "serial": "none of ours", "wwn": "0x5000c500a1b2c3d5"},
        {"name": "/dev/sdc", "size": 11 * GIB, "serial": serial, "wwn": None},
    ]
    told = {"root_device": root_device(host), "skip_block_devices": skipped_disks(host)}
    python = ensure_ironic(settings) / "python"
    done = subprocess.run(
        [python, "-c", _ASK_IPA], input=json.dumps([told, disks]), capture_output=True, text=True, check=True
    )
    root, skipped = json.loads(done.stdout)
    assert root == ["/dev/nvme0n1"]
    assert skipped == ["/dev/nvme1n1", "/dev/nvme2n1", "/dev/sda"]


def test_a_node_that_is_gone_is_not_found(admin: Any, host: Host) -> None:
    with driver_of(host) as driver:
        with pytest.raises(NotFound, match="knows no such node") as caught:
            driver.power_state()
        assert f"driver.node {host.driver.node}" in caught.value.resolution
    assert admin.find_node(host.driver.node) is None
