"""Hosts with a stand-in validator that share a cluster: a real sshd each, the role's own programs, and a BMC.

Each has mounts and processes of its own; what its power cut ends is every process of it. Its disks are folders.
"""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from flash.lab.board import Board
from flash.lab.boot import BoardState
from flash.lab.facts import LabDisk, LabFacts, LabPorts
from flash.lab.redfish_server import RedfishServer
from flash.ssh import known_hosts_path
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.fakes.examples import host_fields
from tests.fakes.ssh_server import ENTER, make_server
from tests.fakes.towers import address, make_keypair
from tests.fakes.votes import Vote, read_log
from tests.unit.roles.agave.conftest import PROGRAMS, PROJECT

STANDIN = PROJECT / "tests/standins/agave"
STAKED, VOTE_ACCOUNT = make_keypair(1), address(make_keypair(2))
NOBODY = 65534
SLOTS_PER_S = 25
START_S = 30
# Machines that run tests may not be allowed to raise limits: the stand-in is told that they are high.
LAUNCHER = (
    "import resource, runpy, sys; resource.getrlimit = lambda _: (1 << 62, 1 << 62); sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
USER = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=-all --ambient-caps=-all"
# What the boot and the unit do on a host.
BOOT = """
mkdir -p /run/agave /run/qtrade/state/config/current/agave
cp {folder}/config/*.json /run/qtrade/state/config/current/agave/
chown {nobody}:{nobody} /run/agave
mount --bind {folder}/mnt /mnt
mount --bind {folder}/opt /opt
mount -t overlay -o lowerdir=/usr,upperdir={folder}/usr,workdir={folder}/usr.work none /usr
mount -t overlay -o lowerdir=/var/lib,upperdir={folder}/var,workdir={folder}/var.work none /var/lib
mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id
export AGAVE_STANDIN_CLUSTER={cluster}
{user} /usr/lib/qtrade/agave/identity.sh
{user} /usr/bin/python3 -IBc "{launcher}" /opt/agave/current/bin/agave-validator {flags} >>{folder}/validator.log 2>&1 &
"""
SUDO = """#!/bin/sh
# The rule of the role's sudoers is tested with a real sudo, in the role's specs.
[ "$1 $2 $3" = "-n -u sol" ] && shift 3 && exec {user} "$@"
"""


def free_ports(count: int, *, start: int = 21000) -> int:
    """Return the first of so many ports in a row that nobody has, of UDP and TCP."""
    for first in range(start, 60000, count):
        with suppress(OSError):
            held = []
            try:
                for port in range(first, first + count):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        held.append(socket.socket(socket.AF_INET, kind))
                        held[-1].bind(("0.0.0.0", port))
                return first
            finally:
                for one in held:
                    one.close()
    raise AssertionError("no ports")


class ValidatorHost:
    """One of them. It is off when it is made."""

    def __init__(self, fleet: "ValidatorFleet", name: str, *, version: str) -> None:
        self.fleet, self.name = fleet, name
        self.folder = fleet.folder / name
        self.ports = free_ports(40, start=21000 + 500 * len(fleet.hosts))
        self.sshd = make_server(fleet.real, self.folder / "sshd")
        self._lay(version)
        words = {
            "user": USER,
            "launcher": LAUNCHER,
            "flags": " ".join(self._flags()),
            "cluster": fleet.folder / "cluster",
        }
        boot = BOOT.format(folder=self.folder, nobody=NOBODY, **words)
        script, _, last = ENTER.rpartition("exec")
        self.sshd.enter = f"{script}{boot}\nexec{last}"
        self.sshd.spaces = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self.bmc = Bmc(self)
        known = known_hosts_path(fleet.settings, name)
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(f"{name} {(self.sshd.folder / 'host_key.pub').read_text()}")
        self.connect()

    @property
    def ledger(self) -> Path:
        return self.folder / "mnt/ledger"

    @property
    def tower(self) -> Path:
        return self.ledger / f"tower-1_9-{address(STAKED)}.bin"

    @property
    def log(self) -> str:
        path = self.folder / "validator.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def process(self) -> str:
        """What the log of votes calls the validator that runs now."""
        return self.log.rpartition("\nprocess ")[2].split("\n")[0]

    @property
    def is_on(self) -> bool:
        return self.sshd.child is not None

    def connect(self, *, port: int | None = None) -> None:
        """Write its manifest; another port is one where nobody answers."""
        ssh = {"port": port or self.sshd.port, "operator": "root", "identity_file": str(self.sshd.identity)}
        driver = {
            "kind": "redfish", "url": f"http://127.0.0.1:{self.bmc.port}", "system": f"/redfish/v1/Systems/{self.name}",
            "username": "admin", "password_file": str(self.folder / "bmc-password"),
        }  # fmt: skip
        fields = host_fields(name=self.name, role="validator", address="127.0.0.1", ssh=ssh, driver=driver)
        path = self.fleet.settings.project / f"manifests/hosts/{self.name}.yaml"
        path.write_text(yaml.safe_dump(fields))

    def disconnect(self) -> None:
        """Part it from whoever commands it; the cluster it still reaches."""
        self.connect(port=1)

    def power_on(self) -> None:
        (self.folder / "boot_id").write_text(f"{uuid4()}\n")
        began = self.log.count(" started, identity ")
        self.sshd.start()
        wait_for(lambda: self.log.count(" started, identity ") > began, lambda: self.log[-2000:])

    def power_off(self) -> None:
        self.sshd.stop()

    def reboot(self) -> None:
        self.power_off()
        self.power_on()

    def run(self, command: str) -> str:
        """Run a command of the host's root."""
        target = self.sshd.target(self.fleet.settings)
        return target.run(command).stdout

    def by_hand(self, *words: str, keypair: bytes | None = None) -> None:
        """Do what an operator would do without qtrade."""
        program = f"/usr/bin/python3 -IB /opt/agave/current/bin/agave-validator --ledger /mnt/ledger {' '.join(words)}"
        stdin = json.dumps(list(keypair)).encode() if keypair else None
        self.sshd.target(self.fleet.settings).run(f"{USER} {program}", stdin=stdin)

    def _flags(self) -> list[str]:
        flags = {
            "identity": "/var/lib/agave/identity.json", "ledger": "/mnt/ledger", "tower": "/mnt/ledger",
            "rpc-port": self.ports, "gossip-port": self.ports + 2, "vote-account": VOTE_ACCOUNT,
            "dynamic-port-range": f"{self.ports + 2}-{self.ports + 32}", "init-complete-file": "/run/agave/init-complete",
        }  # fmt: skip
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        return [*words, "--private-rpc", "--no-xdp", "--no-os-network-limits-test"]

    def _lay(self, version: str) -> None:
        for name in ("config", "mnt/ledger", "opt/agave", "usr/bin", "usr.work", "var/agave", "var.work"):
            (self.folder / name).mkdir(parents=True)
        shutil.copytree(STANDIN, self.folder / "opt/agave/current", ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "opt/agave/current/version.yml").write_text(f"channel: v{version}\n")
        programs = self.folder / "usr/lib/qtrade/agave"
        shutil.copytree(PROGRAMS, programs, ignore=shutil.ignore_patterns("__pycache__"))
        (programs / "start.json").write_text(json.dumps({"version": version, "profile": "validator"}))
        (self.folder / "usr/bin/qtrade-agave-ready").symlink_to("../lib/qtrade/agave/ready.py")
        sudo = self.folder / "usr/bin/sudo"
        sudo.write_text(SUDO.format(user=USER))
        sudo.chmod(0o755)
        interfaces = self.folder / "usr/share/qtrade/interfaces.d"
        interfaces.mkdir(parents=True)
        (interfaces / "agave.json").write_text(json.dumps({"interfaces": [{"name": "json-rpc", "port": self.ports}]}))
        ready = {"reference_rpcs": [self.fleet.reference], "max_slot_lag": 100, "rpc_bind": "127.0.0.1"}
        (self.folder / "config/ready.json").write_text(json.dumps(ready))
        (self.folder / "config/validator.json").write_text(json.dumps({"vote_account": VOTE_ACCOUNT}))
        (self.folder / "bmc-password").write_text("bmc-of-the-tests")
        (self.folder / "bmc-password").chmod(0o600)
        for owned in (self.ledger, self.folder / "var/agave"):
            os.chown(owned, NOBODY, NOBODY)
        (self.folder / "var/agave").chmod(0o700)


class Bmc:
    """The lab's BMC before a host. When it `lies`, it does nothing and says that it did."""

    def __init__(self, host: ValidatorHost) -> None:
        self.host = host
        self.lies = False
        self.port = free_ports(1, start=45000)
        disk = LabDisk("x", 1)
        facts = LabFacts(
            host.name,
            Firmware.UEFI,
            1,
            1,
            str(uuid4()),
            "52:54:00:00:00:01",
            LabPorts(1, self.port, 1),
            disk,
            disk,
            disk,
        )
        self.board = Board(
            BoardState(), medium=host.folder / "medium", start=self._start, keep=lambda _: None, note=lambda _: None
        )
        self.server = RedfishServer(facts, self.board, password="bmc-of-the-tests", downloads=host.folder)
        for serve in (self.server.serve_forever, self.board.run):
            threading.Thread(target=serve, daemon=True).start()
        self.board.ask(self.board.power_on)

    def _start(self, *_: object) -> "Bmc":
        if not self.host.is_on and not self.lies:
            self.host.power_on()
        return self

    def stop(self) -> None:
        if not self.lies:
            self.host.power_off()

    def press_power_button(self) -> None:
        raise AssertionError("nobody asks the guest")

    def change_medium(self, path: Path | None) -> None:
        raise AssertionError("nobody changes the disc")

    def close(self) -> None:
        self.board.close()
        self.server.shutdown()
        self.server.server_close()


@dataclass
class ValidatorFleet:
    """The hosts, the cluster, and a reference RPC that votes for nobody. `real` says where tools are, `settings` are the operator's."""

    folder: Path
    real: Settings
    settings: Settings
    hosts: dict[str, ValidatorHost] = field(default_factory=dict)
    reference: str = ""
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def votes(self) -> list[Vote]:
        return read_log(self.folder / "cluster/votes.jsonl")

    def __getitem__(self, name: str) -> ValidatorHost:
        return self.hosts[name]

    def change_cluster(self, **changes: Any) -> None:
        """Write what the cluster is; validators read it when they start."""
        path = self.folder / "cluster/cluster.json"
        facts = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**facts, **changes}))

    def start_reference(self) -> None:
        ports = free_ports(40, start=50000)
        ledger = self.folder / "reference"
        ledger.mkdir()
        os.chown(ledger, NOBODY, NOBODY)
        (self.folder / "key.json").write_text(json.dumps(list(make_keypair(30))))
        flags = f"--identity {self.folder}/key.json --ledger {ledger} --rpc-port {ports} --gossip-port {ports + 2} --no-voting"
        flags += f" --dynamic-port-range {ports + 2}-{ports + 32} --private-rpc --no-xdp --no-os-network-limits-test"
        command = f'exec {USER} /usr/bin/python3 -IBc "{LAUNCHER}" {STANDIN}/bin/agave-validator {flags}'
        with (self.folder / "reference.log").open("wb") as log:
            env = {**os.environ, "AGAVE_STANDIN_CLUSTER": str(self.folder / "cluster")}
            self.children.append(subprocess.Popen(["sh", "-c", command], stdout=log, stderr=log, env=env))
        self.reference = f"http://127.0.0.1:{ports}"
        wait_for(lambda: b" started, identity " in (self.folder / "reference.log").read_bytes(), lambda: "no reference")

    def close(self) -> None:
        for host in self.hosts.values():
            host.power_off()
            host.bmc.close()
        for child in self.children:
            child.kill()
            child.wait()


@contextmanager
def run_fleet(real: Settings, settings: Settings, folder: Path, *, version: str = "4.2.1") -> Iterator[ValidatorFleet]:
    """Run two hosts until the block ends; nobody has the identity yet. `folder` is to be readable for everybody."""
    (folder / "cluster").mkdir(parents=True)
    (folder / "cluster").chmod(0o777)
    fleet = ValidatorFleet(folder, real, settings)
    now = {"first_slot": 100_000, "monotonic_s": time.monotonic(), "slots_per_s": SLOTS_PER_S}
    fleet.change_cluster(**now, address=VOTE_ACCOUNT, node=address(STAKED))
    try:
        fleet.start_reference()
        for name in ("val-1", "val-2"):
            fleet.hosts[name] = ValidatorHost(fleet, name, version=version)
        wait_for(lambda: all(host.is_on for host in fleet.hosts.values()), lambda: "the hosts do not start")
        identities = settings.project / "manifests/identities"
        identities.mkdir()
        fields = {
            "schema_version": 1, "name": "main", "environment": "development", "address": address(STAKED),
            "vote_account": VOTE_ACCOUNT, "keypair": "env:STAKED_KEY", "hosts": [*fleet.hosts], "reference_rpcs": [fleet.reference],
        }  # fmt: skip
        (identities / "main.yaml").write_text(yaml.safe_dump(fields))
        rules = {"schema_version": 1, "name": fields["environment"]}
        (settings.project / f"manifests/environments/{rules['name']}.yaml").write_text(yaml.safe_dump(rules))
        yield fleet
    finally:
        fleet.close()


def wait_for(is_done: Any, explain: Any) -> None:
    deadline = time.monotonic() + START_S
    while not is_done():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
