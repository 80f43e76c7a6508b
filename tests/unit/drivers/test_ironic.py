"""The driver of Ironic: what it asks in which order, and what it does when a node is not ours, is held, fails or hangs."""

from typing import Any

import pytest
from openstack import exceptions as sdk

from flash.drivers import PowerState, ironic
from flash.drivers.ironic import IronicDriver
from flash.drivers.ironic_api import account_of, error_for
from flash.drivers.waiting import Waiting
from qtrade.errors import BadInput, HostError, NotFound, QtradeError, Refused
from tests.fakes.ironic_sdk import FakeIronic, make_node, no_answer
from tests.unit.drivers.test_ironic_node import ironic_host

pytestmark = pytest.mark.unit

HOST = ironic_host()
DISC = "http://192.0.2.1:8080/t/installer.iso"
TELL = "patch /properties/root_device /properties/skip_block_devices /automated_clean"
ARM, REST = "patch /deploy_interface /instance_info", "patch /instance_info /deploy_interface"
VALIDATE = "validate boot,deploy,power"


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.01)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeIronic:
    made = FakeIronic()
    monkeypatch.setattr(ironic, "connect", lambda *_: made)
    return made


@pytest.fixture
def driver(service: FakeIronic) -> IronicDriver:
    assert service
    clock = Clock()
    return IronicDriver(HOST.driver, lambda _: "a secret", Waiting(clock=clock, sleep=clock.sleep))


def test_a_host_is_enrolled_and_deployed(service: FakeIronic, driver: IronicDriver) -> None:
    with driver:
        assert driver.check_deploy(HOST) == {"ironic_node": None, "provision_state": "not enrolled"}
        assert service.calls == []
        states = driver.deploy(HOST, DISC)["provision_states"]
    assert states == ["enroll", "manageable", "manageable", "available", "active"]
    assert service.calls == [
        "create",
        "port 52:54:00:00:00:01 of uuid-1",
        "patch /automated_clean",
        "manage",
        "inspect",
        "provide",
        ARM,
        VALIDATE,
        "active",
        "close",
    ]


def test_a_deployed_host_is_told_of_its_disks_before_anything_happens_to_it(
    service: FakeIronic, driver: IronicDriver
) -> None:
    service.node = make_node("active", properties={"cpus": 4})
    assert driver.deploy(HOST, DISC)["provision_states"] == ["active", "available", "active"]
    assert service.calls == [TELL, "deleted", ARM, VALIDATE, "active"]


def test_a_node_at_rest_is_protected_and_boots_from_its_disk(service: FakeIronic, driver: IronicDriver) -> None:
    service.node = make_node("active", deploy_interface="ramdisk", instance_info={"boot_iso": DISC})
    driver.boot_from_disk()
    protect = f"update {{'is_protected': True, 'protected_reason': '{ironic._PROTECTED}'}}"
    assert service.calls == ["maintenance on", REST, "maintenance off", "boot disk always", "detach cdrom", protect]
    assert (service.node.deploy_interface, service.node.instance_info) == ("custom-agent", {})


def test_a_failed_deployment_is_left_at_rest_too_but_cannot_be_protected(
    service: FakeIronic, driver: IronicDriver
) -> None:
    service.node = make_node("deploy failed", boot_interface="ipxe")
    service.devices = ("pxe",)
    driver.boot_from_disk()
    assert service.calls == ["maintenance on", REST, "maintenance off"]


def test_maintenance_ends_though_the_change_failed(
    service: FakeIronic, driver: IronicDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.node = make_node("active")

    def refuse(*_: Any) -> None:
        raise no_answer(sdk.BadRequestException, 400, "no such interface")

    monkeypatch.setattr(service, "patch_node", refuse)
    with pytest.raises(BadInput):
        driver.boot_from_disk()
    assert service.calls == ["maintenance on", "maintenance off"]


def test_disks_that_ironic_does_not_keep_end_the_deployment(service: FakeIronic, driver: IronicDriver) -> None:
    service.node, service.forgets_disks = make_node("active"), True
    with pytest.raises(HostError, match="does not keep what it was told of its disks"):
        driver.deploy(HOST, DISC)
    assert service.calls == [TELL]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"is_maintenance": True, "maintenance_reason": "new memory"}, "in maintenance: new memory"),
        ({"is_maintenance": True}, "nobody said why"),
        ({"instance_id": "abc"}, "instance abc of another service"),
        ({"reservation": "conductor-9"}, "locked by conductor conductor-9"),
        ({"provision_state": "clean wait"}, "clean wait"),
        ({"provision_state": "wait call-back"}, "is being worked on"),
    ],
)
def test_a_node_that_is_not_ours_is_refused_and_nothing_is_asked(
    service: FakeIronic, driver: IronicDriver, fields: dict[str, Any], words: str
) -> None:
    service.node = make_node(**{"state": "active", **{k: v for k, v in fields.items() if k != "provision_state"}})
    service.node.provision_state = fields.get("provision_state", "active")
    with pytest.raises(Refused, match=words):
        driver.check_deploy(HOST)
    assert service.calls == []


@pytest.mark.parametrize(
    ("state", "verb", "end"),
    [
        ("enroll", "manage", "enroll"),
        ("manageable", "provide", "error"),
        ("available", "active", "deploy failed"),
        ("active", "deleted", "error"),
    ],
)
def test_a_step_that_fails_says_what_ironic_said(
    service: FakeIronic, driver: IronicDriver, state: str, verb: str, end: str
) -> None:
    service.node, service.fails = make_node(state, last_error="the BMC burns"), {verb: end}
    with pytest.raises(HostError, match=end) as caught:
        driver.deploy(HOST, DISC)
    assert caught.value.details == "the BMC burns"
    assert service.calls[-1] == verb


def test_a_step_that_hangs_is_given_up(service: FakeIronic, driver: IronicDriver) -> None:
    service.node, service.stuck = make_node("available"), "active"
    with pytest.raises(HostError, match="deploy: not seen within 1800 s"):
        driver.deploy(HOST, DISC)


def test_power_counts_once_ironic_saw_it(service: FakeIronic, driver: IronicDriver) -> None:
    service.node = make_node("active")
    driver.power_cycle()
    assert service.calls == ["power off", "power on"]
    assert driver.power_state() is PowerState.ON
    service.node.power_state = None
    assert driver.power_state() is PowerState.UNKNOWN


def test_the_lock_is_ironics_protection(service: FakeIronic, driver: IronicDriver) -> None:
    assert not driver.is_locked()
    service.node = make_node("active")
    driver.unlock()
    assert service.calls == []
    driver.lock()
    assert driver.is_locked()
    driver.unlock()
    assert not driver.is_locked()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (no_answer(sdk.HttpException, 401, "no"), BadInput, "driver.username"),
        (no_answer(sdk.ForbiddenException, 403, "no"), BadInput, "driver.username"),
        (no_answer(sdk.ForbiddenException, 403, "node is protected"), Refused, "protected_reason"),
        (no_answer(sdk.NotFoundException, 404, "no"), NotFound, "driver.node rpc-1"),
        (no_answer(sdk.ConflictException, 409, "locked"), Refused, "what works on the node"),
        (no_answer(sdk.BadRequestException, 400, "no"), BadInput, "own words"),
        (no_answer(sdk.HttpException, 503, "no"), HostError, "log of Ironic"),
        (sdk.ConfigException("no cloud"), BadInput, "clouds.yaml"),
    ],
)
def test_errors_lead_to_what_can_be_mended(error: Exception, kind: type[QtradeError], words: str) -> None:
    assert HOST.driver.kind == "ironic"
    made = error_for(account_of(HOST.driver), "show the node", error)
    assert type(made) is kind
    assert words in made.resolution
    assert "http://192.0.2.1:6385" in made.brief
