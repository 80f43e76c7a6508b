"""Doors that a provider opens, behind fakes of their APIs that power-cycle, netboot and erase a lab host."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flash.lab import host as lab
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.fakes.lab_machine import LabMachine, ProviderNetboot, open_netboot
from tests.fakes.providers import FakeCherry, FakeLatitude
from tests.fakes.running_host import free_port
from tests.rigs import LabRig, changed_manifest, make_rig, qtrade, qtrade_json, read_manifest

pytestmark = pytest.mark.torture

# In memory: the provider erases every disk of a host that is disposable.
TMPFS = [
    {"type": "tmpfs", "what": "tmpfs", "where": "/mnt/data", "options": "size=512m,mode=0755"},
    *[
        {"type": "tmpfs", "what": "tmpfs", "where": f"/mnt/{name}", "options": "size=64m,mode=0750,uid=420,gid=420"}
        for name in ("ledger", "accounts", "snapshots")
    ],
]


@dataclass(frozen=True)
class Provided:
    """A blank lab host at a provider: the provider's netboot server has the port where its card asks, a flash another one."""

    rig: LabRig
    netboot: ProviderNetboot
    machine: LabMachine
    port: int

    def fields(self, driver: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Return the fields of the manifest that differ from the lab's own."""
        netboot = {
            "port": self.port,
            "url": f"http://10.0.2.2:{self.port}",
            "mac": self.rig.host.facts.mac,
            "trusted_network": True,
        }
        rescue = {"port": self.rig.host.facts.ports.ssh, "trust_first_key": True}
        return {"driver": {"token": "env:PROVIDER_TOKEN", **driver}, "netboot": netboot, "rescue": rescue, **changes}

    def disposable(self, driver: dict[str, Any], door: str) -> dict[str, Any]:
        """Return the fields of a host that the provider may erase."""
        config = {**self.config(), "bare_metal_mounts": TMPFS}
        kept: dict[str, Any] = {"protected_disks": [], "data_disks": []}
        return self.fields(driver, doors=[door], data_policy="disposable", config=config, **kept)

    def config(self) -> dict[str, Any]:
        """Return the lab's own config values."""
        return read_manifest(self.rig)["config"]

    def manifest(self, fields: dict[str, Any]) -> AbstractContextManager[None]:
        """Have the host's manifest hold `fields` for a while."""
        return changed_manifest(self.rig, **fields)


@pytest.fixture(scope="module")
def provided(settings: Settings, image_010: str) -> Iterator[Provided]:
    assert image_010
    rig = make_rig(settings, "doors-3", Firmware.BIOS)
    key = Path(f"{rig.operator.identity_file}.pub").read_text().strip()
    with open_netboot(settings, rig.host) as netboot:
        yield Provided(rig, netboot, LabMachine(settings, rig.host, netboot, key), free_port())
    lab.down(settings, rig.name, wipe=True)


def flash(provided: Provided, token: str, *options: str) -> dict[str, Any]:
    """Flash 0.1.0 through the manifest's one door; return the evidence."""
    env = {"PROVIDER_TOKEN": token}
    result = qtrade_json("flash", "--host", provided.rig.name, "--version", "0.1.0", "--yes", *options, env=env)
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert result["state"] == "COMMITTED"
    assert provided.rig.sh("systemctl is-system-running") == "running"
    return evidence


def test_cherrys_rescue_system_with_a_password_of_ours(provided: Provided) -> None:
    ledger = provided.rig.ledger_sha256()
    with FakeCherry(provided.machine, transition_s=0.5) as cherry:
        driver = {"kind": "cherry", "server_id": cherry.server_id, "url": cherry.url}
        with provided.manifest(provided.fields(driver, doors=["rescue"])):
            evidence = flash(provided, "cherry-token")
        assert cherry.status == "deployed"
    assert evidence["rescue_root"] in ("rootfs", "tmpfs")
    assert provided.machine.done.count("rescue") == 1
    assert evidence["protected"]
    assert provided.rig.ledger_sha256() == ledger


def test_latitudes_ipxe_erases_only_what_is_disposable_and_named(provided: Provided) -> None:
    provided.machine.done.clear()
    with FakeLatitude(provided.machine, transition_s=0.5) as latitude:
        driver = {"kind": "latitude", "server_id": latitude.server_id, "url": latitude.url}
        with provided.manifest(provided.disposable(driver, "provider_ipxe")):
            env = {"PROVIDER_TOKEN": "latitude-token"}
            done = qtrade("flash", "--host", provided.rig.name, "--version", "0.1.0", "--yes", check=False, env=env)
            assert (done.returncode, provided.machine.done) == (2, []), "`--yes` was enough to erase disks"
            evidence = flash(provided, "latitude-token", "--disposable", provided.rig.name)
    assert evidence["door"] == "provider_ipxe"
    assert {"wipe", "ipxe"} <= {*provided.machine.done}
    # The whole image came again: nothing of before was left on the disk.
    assert evidence["bytes_fetched"] > 100 << 20


def test_latitudes_reinstall_leads_to_the_installer_by_kexec(provided: Provided) -> None:
    provided.machine.done.clear()
    begin = provided.rig.host.console.offset()
    with FakeLatitude(provided.machine, transition_s=0.5) as latitude:
        driver = {"kind": "latitude", "server_id": latitude.server_id, "url": latitude.url}
        with provided.manifest(provided.disposable(driver, "provider_reinstall")):
            evidence = flash(provided, "latitude-token", "--disposable", provided.rig.name)
    assert evidence["door"] == "provider_reinstall"
    assert "reinstall" in provided.machine.done
    assert evidence["kexec_boot_id"] == evidence["stock_boot_id"] != evidence["armed_boot_id"]
    console = provided.rig.host.console.read(begin)
    # Its kernel is quiet: the provider's system shows at its login prompt.
    assert f"Debian GNU/Linux 13 {provided.rig.name} ttyS0" in console
    assert "qtrade.job=file:///qtrade/job.json" in console
