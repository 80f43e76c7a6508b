"""The whole chain on one BIOS host, in order: flash, push, in place, rollback, faults, ports, allow lists; asserted from inside the guest.

One file, because one process has to own the host.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flash.drivers.redfish import RedfishDriver
from flash.inventory import load_host
from flash.lab.tap import attach_tap, make_tap, remove_tap
from qtrade import process
from qtrade.errors import HostError
from qtrade.machine.argv import GUEST_ADDRESS, GUEST_ADDRESS_V6
from qtrade.settings import Settings
from tests.e2e.images import changed_project
from tests.rigs import QTRADE, SECRET, LabRig, bake, qtrade, qtrade_json

pytestmark = pytest.mark.e2e

# The validator listens on IPv4 only; the firewall is the same for both.
OPEN = {GUEST_ADDRESS: {22, 8001}, GUEST_ADDRESS_V6: {22}}
ALLOWED = {22} | set(range(8000, 8031))
# Where PostgreSQL, RPC, Geyser, the Agent and the Collector listen: the firewall must swallow what is sent there.
SERVICES = (5432, 8899, 8900, 10000, 5001, 13133, 4317, 4318)
SCANNER = Path(__file__).with_name("scan_ports.py")
PASSWORD = "of-the-client-in-e2e"
TRADES = """
    with pool as (insert into pools (address, program, base_mint, quote_mint, fee_bps, first_seen_slot)
        values ('e2e-pool', 'e2e', 'base', 'quote', 25, 7) returning id),
    quote as (insert into quotes (pool, slot, base_amount, quote_amount)
        select id, 8, 1234567890123456789012345678901234567890, 42 from pool),
    seen as (insert into opportunities (slot, path, expected_profit_lamports, state, reason)
        values (9, '{e2e,b}', 1000, 'taken', null), (10, '{e2e,c}', -5, 'skipped', 'fee eats it') returning id, slot)
    insert into trades (opportunity, signature, slot, state, profit_lamports, fee_lamports, settled_at)
        select id, 'e2e-landed', slot, 'landed', 995, 5, now() from seen where slot = 9
        union all select null, 'e2e-failed', null, 'failed', null, 5, null
"""
# Whole rows as text, with their times and generated keys; the client stand-in adds rows of its own all the time.
TRADED = """
    select 'opportunity', o::text from opportunities o where path[1] = 'e2e'
    union all select 'pool', p::text from pools p where address = 'e2e-pool'
    union all select 'quote', q::text from quotes q join pools p on p.id = q.pool where address = 'e2e-pool'
    union all select 'trade', t::text from trades t where signature like 'e2e-%' order by 1, 2
"""


def test_flashed_host_runs_the_image_from_layers(bios: LabRig, image_010: str) -> None:
    status = bios.link.status()
    assert status["image"] == image_010
    assert status["verified"] == "verity"
    assert status["state"] == "persistent"
    assert status["upper"] == [], "something wrote to the root during a clean boot"
    assert status["failed_boots"] == 0
    root = bios.sh("findmnt -n -o FSTYPE,OPTIONS /")
    assert root.startswith("overlay")
    lowers = root.split("lowerdir=")[1].split(",")[0].split(":")
    assert len(lowers) == 8
    layers = bios.sh("findmnt -n -t erofs -o OPTIONS").splitlines()
    assert len(layers) == 8
    assert all("ro" in options.split(",") for options in layers)
    assert bios.sh("systemctl is-system-running") == "running"


def test_specs_of_all_seven_roles_ran_on_the_host(bios: LabRig) -> None:
    report = (bios.settings.state_dir / "specs" / bios.name / "report.xml").read_text()
    for role in ("bare_metal", "ufw_solana", "datadog", "geyser", "postgres", "agave", "qtrade_client"):
        assert f"roles.{role}.specs" in report


def test_push_changes_one_file_and_one_secret(bios: LabRig) -> None:
    manifest = bios.host.paths.manifest
    document = yaml.safe_load(manifest.read_text())
    before = bios.sh("systemctl show -P ActiveEnterTimestampMonotonic agave-validator.service")
    document["config"]["datadog_tags"] = ["team:e2e"]
    document["secrets"]["datadog_api_key"] = "env:E2E_DATADOG_KEY"
    manifest.write_text(yaml.safe_dump(document, sort_keys=False))
    done = qtrade("push", "--host", bios.name, "--yes", "--json")
    result = json.loads(done.stdout)
    assert set(result["units"]) == {"datadog-agent.service", "otelcol-contrib.service"}
    assert SECRET not in done.stdout + done.stderr
    assert bios.sh("systemctl is-active datadog-agent.service otelcol-contrib.service").split() == ["active", "active"]
    assert bios.sh("systemctl show -P ActiveEnterTimestampMonotonic agave-validator.service") == before
    status = bios.link.status()
    assert status["generation"] == result["generation"]
    assert status["upper"] == []


def test_secret_is_readable_by_its_unit_only(bios: LabRig) -> None:
    # The stand-in agent says with its health that it has a key; nobody else can read it, in clear or at rest.
    assert bios.sh("systemctl is-active datadog-agent.service") == "active"
    for path in (
        "/run/credentials/datadog-agent.service/datadog_api_key",
        "/run/qtrade/state/credstore/datadog_api_key",
    ):
        assert bios.sh(f"cat {path} 2>&1; true").endswith("Permission denied")
    assert SECRET not in bios.sh("journalctl --no-pager -q")
    assert SECRET not in bios.sh("systemctl show datadog-agent.service otelcol-contrib.service")
    assert SECRET not in bios.sh("ps axeww")


@pytest.fixture(scope="module")
def traded(bios: LabRig) -> list[str]:
    """Rows of each kind as the client writes them, with its password over TCP, through the role's schema."""
    manifest = bios.host.paths.manifest
    document = yaml.safe_load(manifest.read_text())
    document["secrets"]["postgres_client_password"] = "env:E2E_CLIENT_PASSWORD"
    manifest.write_text(yaml.safe_dump(document, sort_keys=False))
    os.environ["E2E_CLIENT_PASSWORD"] = PASSWORD  # of later flashes too
    qtrade("push", "--host", bios.name, "--yes")
    psql = f"PGPASSWORD={PASSWORD} psql -X -h 127.0.0.1 -U qtrade_client -d qtrade -v ON_ERROR_STOP=1 -Atc"
    bios.sh(f'{psql} "{TRADES}"')
    return bios.query(TRADED)


def test_in_place_flash_sends_the_changed_layer_only(
    bios: LabRig, settings: Settings, image_010: str, traded: list[str], tmp_path: Path
) -> None:
    def change(project: Path) -> None:
        # Of this run alone: layers are kept from run to run.
        template = next((project / "ansible/roles/qtrade_client").rglob("*.service*"))
        template.write_text(template.read_text().replace("[Unit]", f"[Unit]\n# {secrets.token_hex(8)}", 1))

    project = changed_project(settings, tmp_path, change)
    baked = bake("0.1.1", env={"QTRADE_PROJECT": str(project)})
    assert baked["built"] == ["qtrade_client"]
    old, new = (json.loads(qtrade("images", "show", version).stdout) for version in ("0.1.0", "0.1.1"))
    changed = {layer["digest"]: layer["size"] for layer in new["layers"]}
    for layer in old["layers"]:
        changed.pop(layer["digest"], None)
    assert len(changed) == 1
    before = bios.rows()
    assert before, "the first boot wrote no rows"
    result = qtrade_json("flash", "--host", bios.name, "--version", "0.1.1", "--yes")
    assert bios.rows() == before
    assert bios.query(TRADED) == traded
    evidence = result["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["door"] == "in_place"
    assert set(evidence["blobs_fetched"]) == set(changed)
    assert evidence["bytes_fetched"] <= sum(changed.values()) + 65536
    status = bios.link.status()
    assert (status["image"], status["previous"], status["once"]) == (new["id"], image_010, "")


def test_rollback_downloads_nothing(bios: LabRig, image_010: str, traded: list[str]) -> None:
    before = bios.rows()
    result = qtrade_json("rollback", "--host", bios.name, "--yes")
    assert (result["version"], result["bytes_fetched"]) == ("0.1.0", 0)
    status = bios.link.status()
    assert (status["image"], status["default"]) == (image_010, image_010)
    assert before
    assert bios.rows() == before
    assert [row.split("|")[0] for row in traded] == ["opportunity", "opportunity", "pool", "quote", "trade", "trade"]
    assert bios.query(TRADED) == traded


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
        with RedfishDriver(access) as driver:
            driver.power_off()
            attach_tap(bios.host, tap)
            driver.power_on()
        yield netns
        with RedfishDriver(access) as driver:
            driver.power_off()
            attach_tap(bios.host, None)
    finally:
        remove_tap(netns)


@pytest.mark.parametrize("address", [GUEST_ADDRESS, GUEST_ADDRESS_V6])
def test_exactly_the_intended_ports_answer(address: str, namespace: str) -> None:
    """Each port that a service of the image listens on, and some of the others: tests/torture/test_allow_list.py asks all."""
    found = scan(namespace, address, *OPEN[address], "--every", 16)
    assert set(found["open"]) == OPEN[address]
    assert set(found["open"]) | set(found["refused"]) <= ALLOWED, "the firewall lets other ports through"
    assert found["udp_refused"] == [8030], (
        "in the validator's range nothing listens on 8030, so it must answer with a refusal"
    )
    # Of the thousands of packets of a scan some may get lost; of few none does.
    found = scan(namespace, address, "--only", *ALLOWED, *SERVICES)
    assert found == {"open": sorted(OPEN[address]), "refused": sorted(ALLOWED - OPEN[address])}


def scan(netns: str, address: str, *arguments: object) -> dict[str, list[int]]:
    """Scan from the namespace, as the scanner's arguments say."""
    argv = ["ip", "netns", "exec", netns, sys.executable, str(SCANNER), address, *map(str, arguments)]
    return json.loads(process.run(argv, timeout_s=400).stdout)


@dataclass(frozen=True)
class Neighbour:
    """A machine beside the host: what it sees of the host's ports, and a controller on it."""

    rig: LabRig
    netns: str

    def answers(self, address: str, *ports: int) -> dict[str, list[int]]:
        return scan(self.netns, address, "--only", *ports)

    def push(self, **values: object) -> subprocess.CompletedProcess[str]:
        manifest = self.rig.host.paths.manifest
        document = yaml.safe_load(manifest.read_text())
        document["config"] |= values
        manifest.write_text(yaml.safe_dump(document, sort_keys=False))
        argv = ["ip", "netns", "exec", self.netns, QTRADE, "push", "--host", self.rig.name, "--yes", "--json"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)

    def sh(self, command: str) -> str:
        argv = ["ip", "netns", "exec", self.netns, *self.rig.operator.argv(command)]
        return process.run(argv, timeout_s=120).stdout.strip()

    def wait_until_up(self) -> None:
        """Wait until the host, which was switched on with its other network, answers as it did before."""
        deadline = time.monotonic() + 300
        while {22, 8001} - set(self.answers(GUEST_ADDRESS, 22, 8001)["open"]):
            assert time.monotonic() < deadline, f"{self.rig.name} does not come up"
            time.sleep(7)  # slower than the limit of new SSH connections


@pytest.fixture(scope="module")
def neighbour(bios: LabRig, namespace: str) -> Iterator[Neighbour]:
    """The namespace, with the host's manifest saying how the host is reached from there."""
    manifest = bios.host.paths.manifest
    before = manifest.read_text()
    document = yaml.safe_load(before)
    document["address"] = GUEST_ADDRESS
    document["ssh"]["port"] = 22
    manifest.write_text(yaml.safe_dump(document, sort_keys=False))
    found = Neighbour(bios, namespace)
    found.wait_until_up()
    yield found
    manifest.write_text(before)


def test_a_pushed_allow_list_opens_its_ports_at_once(neighbour: Neighbour) -> None:
    """What is let through and has no listener refuses; what the firewall swallows says nothing. RPC listens on loopback."""
    boot_id = neighbour.sh("cat /proc/sys/kernel/random/boot_id")
    nothing: dict[str, list[int]] = {"open": [], "refused": []}
    assert neighbour.answers(GUEST_ADDRESS, 8899, 8900, 10000) == nothing
    done = neighbour.push(ufw_solana_rpc_sources=["10.0.2.0/24"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["units"] == ["qtrade-firewall.service"]
    assert neighbour.answers(GUEST_ADDRESS, 8899, 8900, 10000) == {"open": [], "refused": [8899, 8900]}
    assert neighbour.answers(GUEST_ADDRESS_V6, 8899, 8900, 10000) == nothing
    assert neighbour.sh("cat /proc/sys/kernel/random/boot_id") == boot_id


def test_a_broken_allow_list_is_refused_and_changes_nothing(neighbour: Neighbour) -> None:
    generation = neighbour.sh("readlink /run/qtrade/state/config/current")
    rules = neighbour.sh("sudo -n /usr/sbin/iptables-save -t filter | grep ^-A")
    done = neighbour.push(ufw_solana_rpc_sources=["10.0.2.0/24", "everybody"])
    assert done.returncode == HostError.exit_code
    assert "was not taken" in done.stderr
    assert neighbour.sh("readlink /run/qtrade/state/config/current") == generation
    assert "the last good list stays" in neighbour.sh("journalctl --no-pager -q -b -u qtrade-firewall.service")
    assert neighbour.sh("systemctl is-active qtrade-firewall.service ufw.service").split() == ["active", "active"]
    assert neighbour.sh("sudo -n /usr/sbin/iptables-save -t filter | grep ^-A") == rules
    assert neighbour.answers(GUEST_ADDRESS, 22, 8899, 10000) == {"open": [22], "refused": [8899]}
