"""Pushes to a whole lab host: one value, config that cuts the host off, power that fails in a trial, secrets after a boot."""

import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flash import push as pushing
from flash import push_many
from flash.drivers.redfish import RedfishDriver
from flash.inventory import load_host
from flash.push import Order, PushResult
from qtrade import ssh_sharing
from qtrade.errors import HostError
from qtrade.ssh import SshTarget, StartedCommand
from tests.fakes.reporter import RecordingReporter
from tests.rigs import LabRig, read_manifest

pytestmark = pytest.mark.torture

# A network that nobody is in: the host's own address is gone.
ELSEWHERE = "192.0.2.15/24"


@pytest.fixture
def manifest(bios: LabRig) -> Iterator[dict[str, Any]]:
    """The host's manifest as it was; the host has it again afterwards."""
    path = bios.host.paths.manifest
    before = path.read_text()
    push(bios)
    yield read_manifest(bios)
    path.write_text(before)
    push(bios)


def write(rig: LabRig, manifest: dict[str, Any], **config: Any) -> None:
    document = {**manifest, "config": {**manifest["config"], **config}}
    rig.host.paths.manifest.write_text(yaml.safe_dump(document, sort_keys=False))


def push(rig: LabRig, order: Order | None = None) -> PushResult:
    (outcome,) = push_many.push_hosts(rig.settings, [rig.name], RecordingReporter(), lambda _: None, order)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return outcome.result


def starts(rig: LabRig) -> dict[str, str]:
    """Return unit -> when it became active, for all services."""
    said = rig.sh("systemctl show -p Id -p ActiveEnterTimestampMonotonic '*.service'")
    blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in said.split("\n\n"))
    return {
        one["Id"]: one["ActiveEnterTimestampMonotonic"] for one in blocks if one["ActiveEnterTimestampMonotonic"] != "0"
    }


def long_lived(found: dict[str, str]) -> dict[str, str]:
    """Leave out the units of a login and of the agent itself, which come and go with each command."""
    return {
        name: at for name, at in found.items() if not name.startswith(("run-", "user", "session-", "qtrade-trial-"))
    }


@pytest.mark.parametrize(
    ("name", "values", "unit"),
    [
        ("bare_metal_dns", [["192.0.2.53"], ["192.0.2.54"], ["192.0.2.55"]], "systemd-networkd.service"),
        ("ufw_solana_rpc_sources", [["10.0.2.0/24"], ["10.0.3.0/24"], ["10.0.4.0/24"]], "qtrade-firewall.service"),
    ],
)
def test_one_changed_value_reloads_one_unit(
    bios: LabRig, manifest, monkeypatch, logs: Path, *, name: str, values: list[Any], unit: str
) -> None:
    connecting: list[float] = []
    commands: list[str] = []

    def watch(place: Any, called: str, note: Callable[[Any, float], None]) -> None:
        real = getattr(place, called)

        def timed(*args: Any, **options: Any) -> Any:
            begun = time.monotonic()
            try:
                return real(*args, **options)
            finally:
                note(args, time.monotonic() - begun)

        monkeypatch.setattr(place, called, timed)

    watch(ssh_sharing, "_connect", lambda _, took: connecting.append(took))
    watch(SshTarget, "run", lambda args, took: commands.append(f"{args[1].split()[-1]} {took:.1f} s"))
    watch(StartedCommand, "finish", lambda _, took: commands.append(f"job {took:.1f} s"))
    before = long_lived(starts(bios))
    took: list[float] = []
    for value in values:
        write(bios, manifest, **{name: value})
        connecting.clear()
        begun = time.monotonic()
        result = push(bios)
        took.append(round(time.monotonic() - begun - sum(connecting), 2))
        assert (result.units, result.confirmed) == ((unit,), True)
    split = ", ".join(commands)
    after = long_lived(starts(bios))
    assert {one: at for one, at in after.items() if one in before} == before
    status = bios.link.status()
    assert (status["upper"], status["generation"], status["trial"]) == ([], result.generation, "")
    noted = {"unit": unit, "seconds": took, "median": statistics.median(took), "commands": split}
    with (logs / "push.jsonl").open("a") as log:
        log.write(f"{json.dumps(noted)}\n")


def test_a_network_that_nobody_reaches_is_undone_by_the_host(bios: LabRig, manifest) -> None:
    before = bios.link.status()
    write(bios, manifest, bare_metal_addresses=[ELSEWHERE], bare_metal_gateways=[])
    with pytest.raises(HostError, match="took it back"):
        push(bios)
    after = bios.link.status()
    assert (after["generation"], after["boot_id"]) == (before["generation"], before["boot_id"])
    assert after["reverted"]["before"] == before["generation"]
    assert after["upper"] == []


def test_power_that_fails_in_a_trial_brings_back_what_was_confirmed(bios: LabRig, manifest) -> None:
    """The host boots unattended: its services and their secrets are there again, by the config from before the trial."""
    before = bios.link.status()
    write(bios, manifest, bare_metal_addresses=[ELSEWHERE], bare_metal_gateways=[])
    failed: list[BaseException] = []

    def try_push() -> None:
        try:
            push(bios)
        except HostError as error:
            failed.append(error)

    pushing_thread = threading.Thread(target=try_push)
    pushing_thread.start()
    deadline = time.monotonic() + 60
    while not _is_cut_off(bios):
        assert time.monotonic() < deadline, "the host was never cut off"
    with RedfishDriver(load_host(bios.settings, bios.name).driver) as driver:
        driver.power_cycle()
    pushing_thread.join(600)
    assert failed
    status = bios.link.wait_for_status(lambda now: now["boot_id"] != before["boot_id"], within_s=420, what="a boot")
    assert (status["generation"], status["config"], status["trial"]) == (before["generation"], "whole", "")
    assert bios.sh("systemctl is-system-running --wait", check=False) == "running"
    units = "datadog-agent.service otelcol-contrib.service agave-validator.service qtrade-client.service"
    assert set(bios.sh(f"systemctl is-active {units}").split()) == {"active"}
    assert os.environ["E2E_DATADOG_KEY"] not in bios.sh("journalctl --no-pager -q -b")
    assert status["upper"] == []


def _is_cut_off(rig: LabRig) -> bool:
    """Say whether a new connection fails; asked seldom, since the firewall counts them."""
    time.sleep(7)
    try:
        rig.operator.run("true", timeout_s=5)
    except Exception:  # noqa: BLE001 - however it fails
        return True
    return False


def test_the_generation_before_comes_back(bios: LabRig, manifest) -> None:
    first = push(bios).generation
    write(bios, manifest, agave_max_slot_lag=77)
    second = push(bios)
    assert (second.units, second.confirmed) == ((), False)
    assert push(bios, Order(rollback=True)).generation == first
    assert bios.sh("grep -c 77 /run/qtrade/state/config/current/agave/ready.json", check=False) == "0"


def test_pushing_is_patient_enough_for_the_firewall(bios: LabRig, manifest) -> None:
    """The fifth push in a row meets the limit of new connections; it is confirmed in its window all the same."""
    assert pushing.TRIAL_S > 30
    for last in range(1, 6):
        write(bios, manifest, ufw_solana_rpc_sources=[f"10.0.2.{last}/32"])
        ssh_sharing.close_all()
        assert push(bios).confirmed
