"""What answers from outside, seen over a tap in a namespace of the test: port forwarding would hide closed ports."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash.drivers import driver_for
from flash.inventory import load_host
from flash.lab.tap import attach_tap, make_tap, remove_tap
from qtrade import process
from qtrade.machine.argv import GUEST_ADDRESS, GUEST_ADDRESS_V6
from tests.e2e.conftest import LabRig

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("bios")]

OPEN = {22, 8001}
ALLOWED = OPEN | set(range(8000, 8031))
SCANNER = Path(__file__).with_name("scan_ports.py")


def remove_stale_namespaces() -> None:
    """Remove what a killed run left: namespaces that are named after a process that is gone."""
    for line in process.run(["ip", "netns", "list"]).stdout.splitlines():
        name = line.split()[0]
        owner = name.removeprefix("qt-e2e-")
        if owner != name and not Path("/proc", owner).exists():
            remove_tap(name)


@pytest.fixture(scope="module")
def namespace(bios: LabRig) -> Iterator[str]:
    """The host with its NIC on a tap in a namespace of its own."""
    netns = f"qt-e2e-{os.getpid()}"
    remove_stale_namespaces()
    access = load_host(bios.settings, bios.name).driver
    tap = make_tap(netns)
    try:
        with driver_for(access) as driver:
            driver.power_off()
            attach_tap(bios.host, tap)
            driver.power_on()
        yield netns
        with driver_for(access) as driver:
            driver.power_off()
            attach_tap(bios.host, None)
    finally:
        remove_tap(netns)


@pytest.mark.parametrize("address", [GUEST_ADDRESS, GUEST_ADDRESS_V6])
def test_exactly_the_intended_ports_answer(address: str, namespace: str) -> None:
    argv = ["ip", "netns", "exec", namespace, sys.executable, str(SCANNER), address]
    found = json.loads(process.run(argv, timeout_s=400).stdout)
    assert set(found["open"]) == OPEN
    assert set(found["open"]) | set(found["refused"]) == ALLOWED, "the firewall lets other ports through"
    assert found["udp_refused"] == [8030], (
        "in the validator's range nothing listens on 8030, so it must answer with a refusal"
    )
