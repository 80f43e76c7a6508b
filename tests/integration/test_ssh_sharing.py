"""Shared SSH connections against a real OpenSSH server: few connections, none that hangs, nothing left behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from qtrade import ssh_sharing
from qtrade.errors import HostError, ToolError
from qtrade.settings import Settings, load_settings
from qtrade.specs import Mark
from qtrade.specs.remote import run_over_ssh
from qtrade.ssh import SshTarget
from tests.fakes.examples import make_settings
from tests.fakes.ssh_server import SshServer, serve_ssh

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

_SPEC = """
import pytest
@pytest.mark.booted
@pytest.mark.parametrize("number", range(5))
def test_it_answers(host, number):
    assert host.check_output("echo %s", str(number)) == str(number)
"""
# Makes a connection, says so, and stays.
_STAYS = """
import sys, time
from pathlib import Path
from qtrade.ssh import SshTarget
target = SshTarget("box", "127.0.0.1", int(sys.argv[1]), "root", Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
target.run("true")
print("connected", flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A state directory with a short path, as people have it: there the sockets are."""
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        yield make_settings(Path(folder))


@pytest.fixture
def server(tmp_path) -> Iterator[SshServer]:
    with serve_ssh(load_settings(), tmp_path / "sshd") as running:
        yield running


@pytest.fixture
def target(server, settings) -> Iterator[SshTarget]:
    yield server.target(settings)
    ssh_sharing.close_all()


def sockets(settings: Settings) -> list[Path]:
    return [path for path in (settings.state_dir / "ssh").rglob("*") if path.is_socket()]


def test_many_commands_share_one_connection(server, settings, target) -> None:
    for number in range(20):
        assert target.run(f"echo {number}").stdout == f"{number}\n"
    lines: list[str] = []
    code, _ = target.stream("cat; exit 3", stdin=b"a\nb\n", extra=(), on_line=lines.append, timeout_s=20)
    assert (code, lines) == (3, ["a", "b"])
    assert server.connections == 1
    # Each command for itself would have made as many as this one: the count counts.
    alone = replace(target, sockets=None)
    for _ in range(3):
        alone.run("true")
    assert server.connections == 4
    assert len(sockets(settings)) == 1
    assert (settings.state_dir / "ssh").stat().st_mode & 0o777 == 0o700
    ssh_sharing.close_all()
    assert list((settings.state_dir / "ssh").iterdir()) == []


def test_codes_and_words_of_commands_come_through(target) -> None:
    done = target.run("echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    with pytest.raises(HostError, match="ended with code 7"):
        target.run("exit 7")


def test_specs_use_the_same_connection(server, settings, target) -> None:
    specs = settings.project / "ansible/roles/one/specs"
    specs.mkdir(parents=True)
    (specs / "test_one.py").write_text(_SPEC)
    shutil.copy(load_settings().project / "ansible/specs.ini", settings.project / "ansible")
    target.run("true")
    result = run_over_ssh(settings, target, ("one",), (Mark.BOOTED,), settings.state_dir / "specs/box")
    assert (result.ran, result.failures) == (5, ())
    target.run("true")
    assert server.connections == 1


def closes(port: int) -> bool:
    """Say whether nobody listens at the port, now or soon: the server sees the end of a connection a little later."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def test_a_forward_works_and_ends_with_its_command(server, target) -> None:
    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    target.run("true")
    with HTTPServer(("127.0.0.1", 0), Hello) as served:
        Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with HTTPServer(("127.0.0.1", 0), Hello) as probe:
            port = probe.server_port
        extra = ("-R", f"127.0.0.1:{port}:127.0.0.1:{served.server_port}", "-o", "ExitOnForwardFailure=yes")
        fetch = (
            f"{sys.executable} -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:{port}\").read())'"
        )
        lines: list[str] = []
        for _ in range(2):  # the second one finds its port free again
            code, said = target.stream(fetch, stdin=b"", extra=extra, on_line=lines.append, timeout_s=20)
            assert (code, said) == (0, "")
        assert closes(port)
        served.shutdown()
    assert lines == ["b'hello'"] * 2
    assert server.connections == 3


def test_a_host_that_rebooted_is_connected_to_anew(server, target) -> None:
    target.run("true")
    server.stop()
    with pytest.raises(HostError, match="cannot be reached over SSH"):
        target.run("true")
    server.start()
    assert target.run("echo back").stdout == "back\n"


def test_a_host_that_went_silent_is_noticed_at_once(server, target, monkeypatch) -> None:
    """Power that fails closes no connection: the old one hangs, while the host that boots again takes new ones."""
    monkeypatch.setattr(ssh_sharing, "_FRESH_S", 0.0)
    monkeypatch.setattr(ssh_sharing, "_ALIVE_S", 2.0)
    target.run("true")
    frozen = server.sessions()
    assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    assert target.run("echo again").stdout == "again\n"
    assert time.monotonic() - start < 10
    assert server.connections == 2


def test_a_command_that_hangs_costs_its_own_time_once(server, target) -> None:
    target.run("true")
    for pid in server.sessions():
        os.kill(pid, signal.SIGSTOP)
    # It answered just now, so it is not asked for a sign of life.
    with pytest.raises(ToolError, match="took longer than 2 s"):
        target.run("true", timeout_s=2)
    start = time.monotonic()
    assert target.run("echo again").stdout == "again\n"
    assert time.monotonic() - start < 5
    assert server.connections == 2


def test_before_a_reboot_the_connection_can_be_ended(server, settings, target) -> None:
    target.run("true")
    target.disconnect()
    assert sockets(settings) == []
    target.run("true")
    assert server.connections == 2


def test_another_host_key_is_refused_by_name(server, target) -> None:
    other = (server.folder / "user_key.pub").read_text()
    target.known_hosts.write_text(f"box {other}")
    with pytest.raises(HostError, match="shows another SSH host key"):
        target.run("true")


def test_what_a_killed_process_left_is_removed_by_the_next(server, settings, target) -> None:
    where = (target.port, target.identity_file, target.known_hosts, target.sockets)
    child = subprocess.Popen(
        [sys.executable, "-c", _STAYS, *(str(part) for part in where)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child, child.stdout as said:
        assert said.readline() == "connected\n"
        left = sockets(settings)
        assert len(left) == 1
        # While it lives, others leave it alone.
        target.run("true")
        assert set(left) < set(sockets(settings))
        child.kill()
    ssh_sharing.close_all()
    assert sockets(settings) == left
    target.run("true")
    assert not left[0].exists()
    deadline = time.monotonic() + 10
    while len(server.sessions()) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(server.sessions()) == 1
    assert server.connections == 3


def test_a_state_directory_with_a_long_path_works_too(server, settings, target) -> None:
    far = replace(target, sockets=settings.state_dir / ("x" * 80) / "ssh")
    for _ in range(3):
        far.run("true")
    assert server.connections == 1
