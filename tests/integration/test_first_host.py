"""`qtrade init` against real servers: an sshd whose machine has known disks, and a BMC that is not ours; questions on a real terminal."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flash.agent import disks
from flash.agent.errors import AgentError
from flash.discovery.over_ssh import discover_over_ssh, show_host_key
from flash.inventory import load_host
from qtrade.errors import HostError
from qtrade.settings import load_settings
from qtrade.ssh import SshTarget
from tests.fakes.agent_disks import Machine
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project
from tests.fakes.ssh_server import SshServer, make_server, serve_ssh
from tests.fakes.sushy_emulator import MAC, PASSWORD, USER, UUID, emulator

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

MIB = 1 << 20
# What the guest's shell finds in place of this machine's own hardware.
_SHOW = """
mount --bind {root}/sys/block /sys/block
mount --bind {root}/sys/class/net /sys/class/net
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    write_project(made)
    (made.project / "manifests/hosts/rpc-1.yaml").unlink()
    (made.project / "manifests/images").mkdir(exist_ok=True)
    (made.project / "manifests/images/lab.yaml").touch()
    monkeypatch.setenv("QTRADE_PROJECT", str(made.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(made.state_dir))
    return made


@pytest.fixture
def hardware(tmp_path) -> Machine:
    """An NVMe disk with two partitions, a SCSI disk whose serial is on its page 0x80, one with nothing, and two cards."""
    machine = Machine(tmp_path / "hardware")
    machine.add(
        "nvme0n1",
        serial="OS-1",
        wwid="eui.01",
        pci="0000:41:00.0",
        size=64 * MIB,
        partitions=("nvme0n1p1", "nvme0n1p2"),
    )
    machine.add("sda", wwid="naa.5000", pci="0000:00:17.0", size=128 * MIB)
    (machine.root / "sys/block/sda/device/vpd_pg80").write_bytes(b"\0\x80\0\x09  WD-1234")
    (machine.root / "sys/block/sda/device/model").write_text("WDC WUH7214  \n")
    machine.add("vda", pci="0000:00:05.0", size=32 * MIB)
    machine.add("loop0", serial="no disk")
    for name, mac, state in (("eno1", "02:00:00:00:00:01", "down"), ("eno2", "02:00:00:00:00:02", "up")):
        card = machine.root / "sys/class/net" / name
        (card / "device").mkdir(parents=True)
        (card / "address").write_text(f"{mac}\n")
        (card / "operstate").write_text(f"{state}\n")
    (machine.root / "sys/class/net/lo").mkdir()
    return machine


@pytest.fixture
def server(hardware, tmp_path) -> Iterator[SshServer]:
    """An sshd on a machine with that hardware."""
    setup = tmp_path / "setup"
    setup.write_text(_SHOW.format(root=hardware.root))
    with serve_ssh(load_settings_of_this_project(), tmp_path / "sshd", setup=setup) as running:
        yield running


def load_settings_of_this_project():
    """Return where the unpacked sshd is kept across tests."""
    kept = {name: os.environ.pop(name, None) for name in ("QTRADE_PROJECT", "QTRADE_STATE_DIR")}
    try:
        return load_settings()
    finally:
        os.environ.update({name: value for name, value in kept.items() if value is not None})


def options(server: SshServer, key: str = "") -> list[str]:
    given = ["--name", "rpc-1", "--env", "development", "--role", "rpc", "--recipe", "lab", "--address", "127.0.0.1"]
    given += [
        "--driver",
        "ssh",
        "--identity",
        str(server.identity),
        "--ssh-user",
        "root",
        "--ssh-port",
        str(server.port),
    ]
    return [*given, *(("--host-key", key) if key else ())]


def fingerprint(server: SshServer) -> str:
    argv = ["ssh-keygen", "-lf", str(server.folder / "host_key.pub")]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]


def qtrade(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "qtrade.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=90)


def test_what_is_found_over_ssh_is_what_the_agent_will_compare(settings, server, hardware, tmp_path) -> None:
    target = SshTarget("rpc-1", "127.0.0.1", server.port, "root", server.identity, tmp_path / "known")
    key, shown = show_host_key(target)
    assert shown == fingerprint(server)
    target.known_hosts.write_text(f"rpc-1 {key}\n")
    machine = discover_over_ssh(target, key)
    identifiers = ("name", "serial", "wwid", "pci_path", "size_bytes", "model")
    of_agent = [tuple(getattr(disk, name) for name in identifiers) for disk in hardware.discover()]
    assert [tuple(getattr(disk, name) for name in identifiers) for disk in machine.disks] == of_agent
    assert [disk.serial for disk in machine.disks] == ["OS-1", "WD-1234", ""]
    assert [part.name for part in machine.disks[0].partitions] == ["nvme0n1p1", "nvme0n1p2"]
    assert [(nic.name, nic.mac, nic.is_up) for nic in machine.nics] == [
        ("eno1", "02:00:00:00:00:01", False),
        ("eno2", "02:00:00:00:00:02", True),
    ]


def test_the_look_at_a_host_key_is_one_connection(settings, server, tmp_path) -> None:
    """Firewalls count them: more would have the login refused."""
    target = SshTarget("rpc-1", "127.0.0.1", server.port, "root", server.identity, tmp_path / "known")
    key, _ = show_host_key(target)
    target.known_hosts.write_text(f"rpc-1 {key}\n")
    discover_over_ssh(target, key)
    asked = {port for port in re.findall(r"127\.0\.0\.1 port (\d+)", server.log) if port != str(server.port)}
    assert len(asked) == 3, server.log  # one waited until it listens, one looked at the key, one logged in


def test_a_server_without_an_ed25519_key_shows_what_it_has(settings, tmp_path) -> None:
    server = make_server(load_settings_of_this_project(), tmp_path / "sshd")
    for name in ("host_key", "host_key.pub"):
        (server.folder / name).unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", server.folder / "host_key"], check=True)
    server.start()
    try:
        key, shown = show_host_key(
            SshTarget("rpc-1", "127.0.0.1", server.port, "root", server.identity, tmp_path / "known")
        )
    finally:
        server.stop()
    assert key.startswith("ecdsa-sha2-nistp256 ")
    assert shown == fingerprint(server)


def test_this_machines_own_disks_are_found_as_the_agent_finds_them(settings, tmp_path) -> None:
    with serve_ssh(load_settings_of_this_project(), tmp_path / "own") as own:
        target = SshTarget("box", "127.0.0.1", own.port, "root", own.identity, tmp_path / "known")
        target.known_hosts.write_text(f"box {show_host_key(target)[0]}\n")
        found = discover_over_ssh(target, "")
    identifiers = ("name", "serial", "wwid", "pci_path", "size_bytes", "model")
    try:
        expected = [tuple(getattr(disk, name) for name in identifiers) for disk in disks.discover()]
    except AgentError as error:
        pytest.skip(f"this machine does not let root read its disks: {error}")
    assert expected
    assert [tuple(getattr(disk, name) for name in identifiers) for disk in found.disks] == expected


def test_options_alone_write_a_manifest_that_is_never_overwritten(settings, server) -> None:
    words = ["init", *options(server, fingerprint(server)), "--os-disk", "OS-1", "--no-keys", "--yes", "--json"]
    shown = qtrade(*words, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    path = settings.project / "manifests/hosts/rpc-1.yaml"
    assert (document["written"], document["keys_made"], path.exists()) == (False, False, False)
    done = qtrade(*words)
    assert done.returncode == 0, done.stderr
    assert path.read_text() == json.loads(done.stdout)["manifest"] == document["manifest"]
    host = load_host(settings, "rpc-1")
    assert host.os_disk.model_dump(exclude_none=True) == {
        "serial": "OS-1", "wwid": "eui.01", "size_bytes": 64 * MIB, "system_mib": 8192, "esp_mib": 128,
    }  # fmt: skip
    assert [disk.serial for disk in host.protected_disks] == ["WD-1234"]
    assert host.rescue.host_key == " ".join((server.folder / "host_key.pub").read_text().split()[:2])
    key = Path(f"{server.identity}.pub").read_text().strip()
    assert (host.config["bare_metal_mac"], host.config["bare_metal_mounts"]) == ("02:00:00:00:00:02", [])
    assert host.config["bare_metal_ssh_keys"] == {"deploy": [key], "operator": [key], "readonly": []}
    before = path.read_bytes()
    again = qtrade(*words)
    assert (again.returncode, path.read_bytes()) == (8, before)
    assert "is never overwritten" in again.stderr
    # `hosts add` is the same for a further one.
    second = qtrade(
        "hosts", "add", *options(server, fingerprint(server)), "--name", "rpc-2", "--os-disk", "OS-1", "--yes"
    )
    assert second.returncode == 0, second.stderr
    assert yaml.safe_load(second.stdout)["name"] == "rpc-2"


def test_another_host_key_than_the_expected_one_stops_it(settings, server) -> None:
    done = qtrade("init", *options(server, "SHA256:somebody-in-between"), "--os-disk", "OS-1", "--yes")
    assert done.returncode == 6
    assert "shows another SSH host key than the expected one" in done.stderr
    assert server.connections == 0
    unsaid = qtrade("init", *options(server), "--os-disk", "OS-1", "--yes")
    assert unsaid.returncode == 2
    assert f"add --host-key {fingerprint(server)}" in unsaid.stderr
    assert not list((settings.project / "manifests/hosts").glob("*.yaml"))


class Terminal:
    """A command on a pseudo-terminal, as a person has it."""

    def __init__(self, *words: str) -> None:
        main, other = pty.openpty()
        argv = [sys.executable, "-m", "qtrade.cli", *words]
        self._child = subprocess.Popen(
            argv,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            # A test run that was started in the background ignores interrupts, and hands that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - this process has no threads
        )
        os.close(other)
        self._main, self.shown, self._at = main, "", 0

    def wait_for(self, text: str, within_s: float = 60) -> None:
        """Wait until the text stands behind all that was waited for before."""
        deadline = time.monotonic() + within_s
        while (found := self.shown.find(text, self._at)) < 0:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), self.shown
        self._at = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._main, f"{text}\n".encode())

    def answer(self, question: str, text: str) -> None:
        self.wait_for(question)
        self.type(text)

    def interrupt(self) -> None:
        self._child.send_signal(signal.SIGINT)

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._main)
        return self._child.wait(30)

    def _read(self) -> bool:
        if not select.select([self._main], [], [], 0.2)[0]:
            return self._child.poll() is None
        try:
            got = os.read(self._main, 65536)
        except OSError:  # how a terminal says that its last program is gone
            return False
        self.shown += got.decode(errors="replace").replace("\r\n", "\n")
        return bool(got)


def test_a_person_answers_every_question_on_a_terminal(settings, server) -> None:
    terminal = Terminal("init", "--ssh-port", str(server.port))
    terminal.answer("Name of the host", "rpc-1")
    terminal.answer("Environment (development, production, staging)", "moon")
    terminal.wait_for("'moon' is none of them")
    terminal.answer("Environment (development, production, staging)", "")
    terminal.answer("Role (rpc, validator)", "validator")
    terminal.answer("Recipe of its images", "lab")
    terminal.answer("Address", "127.0.0.1")
    terminal.answer("Driver: whose API reaches it", "ssh")
    terminal.answer("Private key that logs in", str(server.identity))
    terminal.answer("Who logs in to it now [root]", "")
    terminal.wait_for(f"shows the SSH host key {fingerprint(server)}")
    terminal.answer("Is that what its console or its provider shows? (yes, no)", "yes")
    terminal.wait_for("WDC WUH7214  0.1 GB  serial WD-1234, wwid naa.5000, 0000:00:17.0")
    terminal.answer("Which disk is the OS disk?", "nvme0n1")
    terminal.answer("Data disks, as NAME:/MOUNT", "sda:/mnt/data")
    terminal.answer("Protected disks", "")
    terminal.answer("netboot server during a flash", "")
    terminal.answer("Make them in", "yes")
    assert terminal.end() == 0, terminal.shown
    assert "qtrade flash --host rpc-1 --dry-run" in terminal.shown
    host = load_host(settings, "rpc-1")
    assert (host.role, host.data_disks[0].mount, host.protected_disks) == ("validator", "/mnt/data", ())
    assert (settings.keys_dir / "root.key").stat().st_mode & 0o777 == 0o600


def test_who_says_no_to_a_host_key_is_asked_nothing_more(settings, server) -> None:
    terminal = Terminal("init", *options(server))
    terminal.answer("Is that what its console", "no")
    assert terminal.end() == 7
    assert re.search(r"that host key is not trusted; nothing was done", terminal.shown)
    assert server.connections == 0


def test_ctrl_c_at_a_question_is_no_answer(settings) -> None:
    terminal = Terminal("init")
    terminal.wait_for("Name of the host")
    terminal.interrupt()
    assert terminal.end() == 130
    assert terminal.shown.endswith("interrupted; nothing was done\n")
    assert "error" not in terminal.shown


def test_a_machine_whose_ssh_does_not_answer_yet_is_not_called_untrusted(settings, tmp_path) -> None:
    identity = tmp_path / "key"
    identity.touch(mode=0o600)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        argv = ("--env", "development", "--role", "rpc", "--recipe", "lab", "--address", "127.0.0.1", "--driver", "ssh")
        done = qtrade("init", "--name", "rpc-1", *argv, "--identity", str(identity), "--ssh-port", str(port), "--yes")
    assert done.returncode == HostError.exit_code, done.stderr
    assert f"rpc-1: no SSH server answers at 127.0.0.1:{port}" in done.stderr
    assert "run the same command again" in done.stderr


def test_disks_and_cards_of_a_bmc_that_is_not_ours(settings, tmp_path) -> None:
    drives = [
        {"Id": "32ADF365C6C1B7BD", "Name": "Drive 1", "CapacityBytes": 899527000000, "Protocol": "SAS"},
        {"Id": "58CFF987G8J2V9KL", "Name": "Drive 2", "CapacityBytes": 799527000000, "Protocol": "SAS"},
    ]
    with emulator(tmp_path / "bmc", drives=drives) as bmc:
        words = ["init", "--name", "rpc-1", "--env", "development", "--role", "rpc", "--recipe", "lab"]
        words += ["--address", "192.0.2.10", "--driver", "redfish", "--identity", "/keys/deploy", "--ssh-user", "root"]
        for name, value in {"url": bmc.url, "username": USER, "password_file": str(bmc.password_file)}.items():
            words += ["--driver-field", f"{name}={value}"]
        words += ["--netboot-url", "http://192.0.2.1:8080", "--no-keys", "--yes"]
        # All drives of this BMC have one serial: size tells them apart, and the other one cannot be protected by it.
        done = qtrade(*words, "--os-disk", "Drive 2", "--protect", "", "--json")
        refused = qtrade(*words, "--os-disk", "Drive 2", "--name", "rpc-3")
        assert done.returncode == 0, done.stderr
        wrong = qtrade(
            *words[:-4], "--driver-field", "username=nobody", "--yes", "--os-disk", "Drive 2", "--name", "rpc-2"
        )
    document = json.loads(done.stdout)
    made = yaml.safe_load(document["manifest"])
    assert made["os_disk"] == {"serial": "1234570", "size_bytes": 799527000000}
    assert "protected_disks" not in made
    assert made["driver"]["system"] == f"/redfish/v1/Systems/{UUID}"
    assert made["netboot"]["mac"] == MAC
    assert PASSWORD not in done.stdout + done.stderr
    assert [disk["knows_partitions"] for disk in document["machine"]["disks"]] == [False, False]
    assert "os_disk.serial 1234570 is also a protected or data disk" in refused.stderr
    assert wrong.returncode == HostError.exit_code
    assert PASSWORD not in wrong.stdout + wrong.stderr
