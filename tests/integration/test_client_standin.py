"""The stand-in client as the image runs it, against servers that speak as much of Postgres and gRPC as it needs."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).resolve().parents[1] / "standins/client/bin/qtrade-client"
SETTINGS_FRAME = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
READY = b"Z\0\0\0\x05I"
WALLET = json.dumps([7] * 64)


def data_frame(message: bytes, flags: int = 0) -> bytes:
    payload = b"\0" + len(message).to_bytes(4, "big") + message
    return len(payload).to_bytes(3, "big") + bytes([0, flags]) + (1).to_bytes(4, "big") + payload


def slot_update(slot: int) -> bytes:
    """A SubscribeUpdate with filters ("slots") and a slot below 2^14."""
    update = bytes([0x08, slot & 127 | 128, slot >> 7])
    return b"\x0a\x05slots" + b"\x1a" + bytes([len(update)]) + update


@dataclass
class Servers:
    """Postgres and Geyser: what they were asked, and what Geyser streams."""

    folder: Path
    updates: list[bytes] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    subscriptions: list[bytes] = field(default_factory=list)
    listeners: list[socket.socket] = field(default_factory=list)
    geyser_port: int = 0

    def start_postgres(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / "pg"))
        listener.listen()
        self._accept(listener, self._serve_postgres)

    def start_geyser(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.geyser_port))
        self.geyser_port = listener.getsockname()[1]
        self._accept(listener, self._serve_geyser)

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        self.listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._guard, args=(serve, connection), daemon=True).start()

        threading.Thread(target=run, daemon=True).start()

    def _guard(self, serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def _serve_postgres(self, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"R\0\0\0\x08\0\0\0\0" + READY)
        while asked := connection.recv(4096):
            if asked[:1] == b"Q":
                self.queries.append(asked[5:-1].decode())
                connection.sendall(b"D\0\0\0\x0c\0\1\0\0\0\x0242" + READY)

    def _serve_geyser(self, connection: socket.socket) -> None:
        asked = b""
        while b"slots" not in asked:
            asked += connection.recv(4096)
        self.subscriptions.append(asked)
        connection.sendall(SETTINGS_FRAME)
        for update in self.updates:
            connection.sendall(update)
        while connection.recv(4096):
            pass


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path)
    yield made
    for listener in made.listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@dataclass
class Unit:
    """The client under what systemd would give it."""

    child: subprocess.Popen[str]
    port: int
    notified: socket.socket

    def health(self) -> dict[str, object]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as response:
                return {"code": response.status, **json.loads(response.read())}
        except urllib.error.HTTPError as error:
            with error:
                return {"code": error.code, **json.loads(error.read())}
        except urllib.error.URLError:
            return {}

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as response:
            return response.read().decode()

    def wait_for(self, condition: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        deadline = time.monotonic() + 20
        while not condition(found := self.health()):
            assert time.monotonic() < deadline, found
            assert self.child.poll() is None
            time.sleep(0.1)
        return found


@pytest.fixture
def start(tmp_path: Path, servers: Servers) -> Iterator[Callable[..., Unit]]:
    units: list[Unit] = []

    def run(mode: str = "paper", credentials: dict[str, str] | None = None) -> Unit:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config = f'mode = "{mode}"\nlog_level = "info"\n[geyser]\naddress = "127.0.0.1:{servers.geyser_port or 1}"\n'
        (tmp_path / "client.toml").write_text(config)
        store = tmp_path / "credentials"
        store.mkdir()
        for name, value in (credentials if credentials is not None else {"client_token": "t\n"}).items():
            (store / name).write_text(value)
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notified.bind(str(tmp_path / "notify"))
        environment = {
            "PATH": os.environ["PATH"],
            "QTRADE_CLIENT_CONFIG": str(tmp_path / "client.toml"),
            "QTRADE_CLIENT_POSTGRES": str(tmp_path / "pg"),
            "QTRADE_CLIENT_HEALTH": f"127.0.0.1:{port}",
            "CREDENTIALS_DIRECTORY": str(store),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
        }
        child = subprocess.Popen([PROGRAM], env=environment, stderr=subprocess.PIPE, text=True)
        units.append(Unit(child, port, notified))
        return units[-1]

    yield run
    for unit in units:
        unit.child.kill()
        unit.child.communicate()
        unit.notified.close()


def test_it_records_opportunities_at_the_slots_that_geyser_streams(servers, start) -> None:
    servers.updates = [
        data_frame(slot_update(300))[:7],
        data_frame(slot_update(300))[7:] + data_frame(slot_update(301)),
    ]
    servers.start_postgres()
    servers.start_geyser()
    unit = start(credentials={"client_token": "t", "geyser_x_token": "secret-of-geyser\n"})
    health = unit.wait_for(lambda found: found.get("opportunities") == 1)
    assert health == {
        "code": 200, "status": "ok", "mode": "paper", "version": "0.1.0",
        "postgres": True, "geyser": True, "slot": 301, "opportunities": 1,
    }  # fmt: skip
    (insert,) = [query for query in servers.queries if query.startswith("INSERT")]
    assert "INTO opportunities (slot, path, expected_profit_lamports) VALUES (301," in insert
    assert b"\x07x-token\x10secret-of-geyser" in servers.subscriptions[0]
    assert "qtrade_client_opportunities_total 1\n" in unit.metrics()


def test_a_stream_that_the_server_ends_leaves_no_slot_and_no_rows(servers, start) -> None:
    trailers = bytes([0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88])
    servers.updates = [data_frame(slot_update(300)), trailers]
    servers.start_postgres()
    servers.start_geyser()
    unit = start()
    unit.wait_for(lambda found: found.get("status") == "ok" and found["slot"] is None)
    assert not [query for query in servers.queries if query.startswith("INSERT")]


def test_it_says_what_is_missing_and_goes_on_when_it_is_there(servers, start) -> None:
    servers.start_geyser()
    unit = start()
    health = unit.wait_for(lambda found: bool(found.get("geyser")))
    assert (health["code"], health["status"], health["postgres"]) == (503, "degraded", False)
    servers.start_postgres()
    unit.wait_for(lambda found: found.get("code") == 200)


def test_it_ends_at_once_when_it_is_told_to(servers, start) -> None:
    servers.start_postgres()
    servers.start_geyser()
    unit = start()
    unit.wait_for(lambda found: found.get("code") == 200)
    unit.child.send_signal(signal.SIGTERM)
    _, said = unit.child.communicate(timeout=10)
    assert unit.child.returncode == 0
    assert said.endswith("<6>stopped; 0 opportunities recorded\n")


def test_the_watchdog_hears_of_it_until_it_hangs(servers, start) -> None:
    unit = start()
    unit.notified.settimeout(10)
    assert unit.notified.recv(4096).startswith(b"WATCHDOG=1\nSTATUS=postgres out of reach")
    unit.child.send_signal(signal.SIGUSR2)
    time.sleep(0.2)
    unit.notified.settimeout(0.01)
    with suppress(TimeoutError):
        while True:
            unit.notified.recv(4096)
    unit.notified.settimeout(5)
    with pytest.raises(TimeoutError):
        unit.notified.recv(4096)
    assert unit.child.poll() is None


@pytest.mark.parametrize(
    ("mode", "credentials", "words"),
    [
        ("paper", {}, "the credential client_token is missing"),
        ("paper", {"client_token": "\n"}, "the credential client_token is missing"),
        ("sandbox", {"client_token": "t"}, "mode, log_level or [geyser]"),
        ("live", {"client_token": "t", "client_wallet": "\n"}, "mode live needs the credential client_wallet"),
        ("live", {"client_token": "t", "client_wallet": "[1, 2]"}, "mode live needs the credential client_wallet"),
    ],
)
def test_it_refuses_what_it_cannot_run_with(start, mode, credentials, words) -> None:
    unit = start(mode, credentials)
    _, said = unit.child.communicate(timeout=10)
    assert unit.child.returncode == 78
    assert words in said


def test_a_wallet_is_never_said(servers, start) -> None:
    servers.start_postgres()
    servers.start_geyser()
    unit = start("live", {"client_token": "t0ken", "client_wallet": WALLET})
    assert unit.wait_for(lambda found: found.get("code") == 200)["mode"] == "live"
    unit.child.send_signal(signal.SIGTERM)
    _, said = unit.child.communicate(timeout=10)
    assert "t0ken" not in said
    assert "7, 7" not in said
