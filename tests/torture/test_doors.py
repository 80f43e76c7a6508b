"""Every door of a BIOS host that has a BMC or a shell, one after another; the ledger disk stays as it is."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flash.drivers import BootSource
from flash.drivers.redfish import RedfishDriver
from flash.lab import host as lab
from flash.lab.boot import load_state
from flash.lab.tap import attach_tap, make_tap, remove_tap
from qtrade import process
from qtrade.machine.argv import GATEWAY, GUEST_ADDRESS
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.fakes.lab_machine import open_netboot
from tests.fakes.relay import relay_into
from tests.rigs import QTRADE, LabRig, changed_manifest, make_rig, qtrade, qtrade_json, read_manifest

pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A blank host whose manifest names the doors of its BMC and of its own system."""
    assert image_010
    rig = make_rig(settings, "doors-1", Firmware.BIOS)
    with changed_manifest(rig, doors=["in_place", "kexec", "virtual_media", "pxe"]):
        before = rig.ledger_sha256()
        rig_flash(rig, "virtual_media")
        yield rig
        assert rig.ledger_sha256() == before
    lab.down(settings, rig.name, wipe=True)


def rig_flash(rig: LabRig, door: str, *options: str) -> dict[str, Any]:
    """Flash 0.1.0 through a door, and return the evidence."""
    ledger = rig.ledger_sha256()
    result = qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--door", door, "--yes", *options)
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert (result["state"], evidence["door"]) == ("COMMITTED", door)
    assert all(disk["before"] == disk["after"] for disk in evidence["protected"])
    assert rig.ledger_sha256() == ledger
    return evidence


def journal(rig: LabRig, door: str) -> dict[str, Any]:
    """Return the evidence of the newest flash through a door."""
    for path in sorted((rig.settings.state_dir / "flashes" / rig.name).glob("*.jsonl"), reverse=True):
        merged: dict[str, Any] = {}
        for line in path.read_text().splitlines():
            merged |= json.loads(line)["evidence"]
        if merged["door"] == door:
            return merged
    raise AssertionError(f"no flash through {door}")


def test_virtual_media_boots_the_disc_once(rig: LabRig) -> None:
    evidence = journal(rig, "virtual_media")
    assert len(evidence["disc"]) == 64
    state = load_state(rig.host.paths)
    assert (state.medium_url, state.override.is_set) == (None, False), "the disc or the override was left behind"
    assert rig.link.status()["upper"] == []


def test_kexec_starts_the_installer_with_the_job_in_memory(rig: LabRig) -> None:
    old, begin = rig.link.status(), rig.host.console.offset()
    evidence = rig_flash(rig, "kexec")
    assert (evidence["way"], evidence["old_boot_id"]) == ("agent", old["boot_id"])
    assert evidence["armed_boot_id"] not in {old["boot_id"], rig.link.status()["boot_id"]}
    console = rig.host.console.read(begin)
    assert "qtrade.job=file:///qtrade/job.json" in console, "the installer got its job from the network"
    # The layout was kept, and so the blobs that were there.
    assert evidence["bytes_fetched"] < 1 << 20


def test_rescue_installs_from_a_stock_debian_that_somebody_booted(rig: LabRig) -> None:
    host, begin = rig.host, rig.host.console.offset()
    public_key = Path(f"{rig.operator.identity_file}.pub").read_text().strip()
    rescue = {"port": host.facts.ports.ssh, "trust_first_key": True}
    with changed_manifest(rig, driver={"kind": "ssh"}, doors=["rescue"], rescue=rescue):
        # What runs now is our own image: SSH answers, and that proves nothing.
        done = qtrade("flash", "--host", rig.name, "--version", "0.1.0", "--yes", check=False)
        assert done.returncode != 0
        with open_netboot(rig.settings, host) as netboot:
            netboot.rescue(keys=(public_key,), password=None)
            with RedfishDriver(host.access) as driver:
                driver.boot_once(BootSource.PXE)
                driver.power_cycle()
            assert host.console.wait_for("rescue login:", offset=begin, timeout_s=240)
            evidence = rig_flash(rig, "rescue")
    assert evidence["rescue_root"] in ("rootfs", "tmpfs")
    assert evidence["armed_boot_id"] == evidence["rescue_boot_id"] != rig.link.status()["boot_id"]
    assert netboot.asked.count("kernel") == 1


def test_pxe_with_our_own_dhcp_in_a_network_where_nobody_else_has_one(rig: LabRig) -> None:
    """The controller runs in the namespace of the tap, as a machine in the host's rack does."""
    facts, netns = rig.host.facts, f"qt-doors-{os.getpid()}"
    port, begin = facts.ports.netboot, rig.host.console.offset()
    document = read_manifest(rig)
    netboot = {
        **document["netboot"], "listen": GATEWAY, "port": port, "url": f"http://{GATEWAY}:{port}",
        "dhcp": {"interface": "tap0", "range": [GUEST_ADDRESS, GUEST_ADDRESS]},
    }  # fmt: skip
    ledger = rig.ledger_sha256()
    tap = make_tap(netns)
    try:
        with RedfishDriver(rig.host.access) as driver:
            driver.power_off()
        attach_tap(rig.host, tap)
        ssh = {**document["ssh"], "port": 22}
        with (
            relay_into(netns, facts.ports.bmc),
            changed_manifest(rig, address=GUEST_ADDRESS, ssh=ssh, netboot=netboot, doors=["pxe"]),
        ):
            argv = [str(QTRADE), "flash", "--host", rig.name, "--version", "0.1.0", "--yes", "--json"]
            done = process.run(["ip", "netns", "exec", netns, *argv], env=dict(os.environ), timeout_s=500)
        result = json.loads(done.stdout)
    finally:
        with RedfishDriver(rig.host.access) as driver:
            driver.power_off()
        attach_tap(rig.host, None)
        remove_tap(netns)
    assert (result["state"], result["evidence"]["door"]) == ("COMMITTED", "pxe")
    assert rig.ledger_sha256() == ledger
    assert f"qtrade.job=http://{GATEWAY}:{port}/" in rig.host.console.read(begin)
