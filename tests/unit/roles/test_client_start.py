"""The program that starts the QTrade client once what it trades with is ready, against servers that answer as the real ones."""

import datetime as dt
import importlib.util
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flash.config import render_bundle
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

ROLE = Path(__file__).resolve().parents[3] / "ansible/roles/qtrade_client"
PROGRAM = ROLE / "files/usr/lib/qtrade/qtrade_client/start.py"
SAY = "echo $$ $QTRADE_CLIENT_GEYSER $QTRADE_CLIENT_RPC"
SETTINGS_FRAME = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
LET_IN = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"
STARTING = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("client_start", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


start = load()


def render(config: dict[str, Any]) -> str:
    """Return client.toml as `push` renders it."""
    inputs = yaml.safe_load((ROLE / "config/inputs.yml").read_text())
    for file in inputs["files"]:
        file["template"] = (ROLE / "config/templates" / f"{file['path']}.j2").read_text()
    image = make_image(inputs={"qtrade_client": RoleInputs.model_validate(inputs)})
    (file,) = render_bundle(make_host(config=config), make_environment(), image).files
    return file.content


@contextmanager
def serving(listener: socket.socket, answer: bytes) -> Iterator[list[bytes]]:
    """Answer each connection's first message with `answer` and hang up; yield what was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if isinstance(error, ssl.SSLError):  # whoever did not like the certificate
                    continue
                return
            with connection, suppress(ConnectionError):  # whoever gave up waiting has hung up
                asked.append(connection.recv(4096))
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def postgres(tmp_path: Path) -> tuple[socket.socket, str]:
    path = str(tmp_path / "pg")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener, path


@pytest.fixture
def geyser() -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def test_the_rendered_config_says_what_the_host_set() -> None:
    text = render(
        {
            "qtrade_client_mode": "live",
            "qtrade_client_cpus": [2, 3],
            "qtrade_client_geyser": "[fd00::1]:10000",
            "qtrade_client_strategy": {"max_lamports": 5_000_000, "pairs": ["SOL/USDC"], "note": 'a "b"\n<c>'},
        }
    )
    assert tomllib.loads(text)["strategy"] == {
        "max_lamports": 5_000_000,
        "pairs": ["SOL/USDC"],
        "note": 'a "b"\n<c>',
    }
    assert start.parse_config(text) == start.Config(True, (2, 3), "[fd00::1]:10000", False, "")


def test_a_host_that_sets_nothing_gets_a_config_that_is_taken() -> None:
    assert start.parse_config(render({})) == start.Config(False, (), "", False, "")


def declare(tmp_path: Path, **config: dict[str, Any]) -> tuple[Path, Path]:
    """Write what agave and geyser bake, and the host's config of theirs; return both folders."""
    interfaces, generation = tmp_path / "interfaces.d", tmp_path / "current"
    interfaces.mkdir()
    for role, name, port in (("agave", "json-rpc", 9899), ("geyser", "grpc", 11000)):
        one = {"name": name, "port": port, "bind": "127.0.0.1"}
        (interfaces / f"{role}.json").write_text(json.dumps({"interfaces": [one]}))
    for name, fields in config.items():
        path = generation / name.replace("_", "/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(fields))
    return interfaces, generation


@pytest.mark.parametrize(
    ("config", "stream", "rpc"),
    [
        ({}, "127.0.0.1:11000", "http://127.0.0.1:9899"),
        ({"geyser_host": {"listen": []}}, "127.0.0.1:11000", "http://127.0.0.1:9899"),
        ({"geyser_host": {"listen": ["unix:///run/x", "0.0.0.0:11000"]}}, "127.0.0.1:11000", "http://127.0.0.1:9899"),
        ({"geyser_host": {"listen": ["[::]:11000"]}}, "[::1]:11000", "http://127.0.0.1:9899"),
        ({"geyser_host": {"listen": ["192.0.2.7:11000"]}}, "192.0.2.7:11000", "http://127.0.0.1:9899"),
        ({"agave_ready": {"rpc_bind": "0.0.0.0"}}, "127.0.0.1:11000", "http://127.0.0.1:9899"),
        ({"agave_ready": {"rpc_bind": "2001:db8::7"}}, "127.0.0.1:11000", "http://[2001:db8::7]:9899"),
    ],
)
def test_what_the_config_does_not_say_is_where_the_roles_declare_it(tmp_path, config, stream, rpc) -> None:
    places = declare(tmp_path, **config)
    assert (start.find_geyser(*places), start.find_rpc(*places)) == (stream, rpc)


def test_an_image_without_the_service_needs_an_address_in_the_config(tmp_path) -> None:
    with pytest.raises(start.BadConfig, match="no grpc on TCP: qtrade_client_geyser has to say where it is"):
        start.find_geyser(tmp_path, tmp_path)
    with pytest.raises(start.BadConfig, match="no json-rpc on TCP: qtrade_client_rpc has to say where it is"):
        start.find_rpc(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode =", "no TOML"),
        ('mode = "Live"', "mode is 'Live'"),
        ('mode = "paper"\ncpus = ["2"]', "not a list of CPU numbers"),
        ('mode = "paper"\ncpus = [true]', "not a list of CPU numbers"),
        ('mode = "paper"\ncpus = [-1]', "not a list of CPU numbers"),
        ('mode = "paper"', "[geyser] is missing"),
        ('mode = "paper"\n[geyser]\naddress = "10000"', "not host:port"),
        ('mode = "paper"\n[geyser]\naddress = "a:99999"', "not host:port"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(text, words) -> None:
    with pytest.raises(start.BadConfig) as caught:
        start.parse_config(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("core", [0, 5])
def test_the_core_of_proof_of_history_is_refused(tmp_path, core) -> None:
    table = tmp_path / "start.json"
    table.write_text(json.dumps({"poh_core": core}))
    with pytest.raises(start.BadConfig, match=f"cpus names {core}, which the validator of this image pins"):
        start.check_poh((core, 9), table)
    start.check_poh((core + 1,), table)
    start.check_poh((), table)
    start.check_poh((core,), tmp_path / "an image without a validator")


def test_a_cpu_that_the_host_lacks_is_refused_and_the_others_are_taken() -> None:
    taken: list[tuple[int, tuple[int, ...]]] = []
    with pytest.raises(start.BadConfig, match="cpus names 4, 9, and the host has 0 to 3"):
        start.take_cpus((1, 4, 9), 4, lambda *args: taken.append(args))
    start.take_cpus((), 4, lambda *args: taken.append(args))
    assert taken == []
    start.take_cpus((1, 3), 4, lambda *args: taken.append(args))
    assert taken == [(0, (1, 3))]


def test_credentials_that_the_mode_needs_are_waited_for(tmp_path) -> None:
    with pytest.raises(start.NotReady, match="the credential client_token"):
        start.check_credentials(tmp_path, is_live=False)
    (tmp_path / "client_token").write_text("token\n")
    (tmp_path / "client_wallet").write_text("\n")  # what the unit puts in the place of one that was not pushed
    start.check_credentials(tmp_path, is_live=False)
    with pytest.raises(start.NotReady, match="the credential client_wallet"):
        start.check_credentials(tmp_path, is_live=True)
    (tmp_path / "client_wallet").write_text("[1]")
    start.check_credentials(tmp_path, is_live=True)


def test_postgres_is_ready_when_it_lets_the_account_in(postgres) -> None:
    listener, path = postgres
    with serving(listener, LET_IN) as asked:
        start.check_postgres(path, "qtrade_client", "qtrade")
    assert asked[0][8:] == b"user\0qtrade_client\0database\0qtrade\0\0"
    assert int.from_bytes(asked[0][:4], "big") == len(asked[0])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"E" + (len(STARTING) + 4).to_bytes(4, "big") + STARTING, "the database system is starting up"),
        (b"R\0\0\0\x08\0\0\0\x0a", "it asks for a password"),
        (b"R\0\0\0", "it hung up"),
    ],
)
def test_postgres_that_answers_otherwise_is_not_ready(postgres, answer, words) -> None:
    listener, path = postgres
    with serving(listener, answer), pytest.raises(start.NotReady, match=words):
        start.check_postgres(path, "qtrade_client", "qtrade")


def test_postgres_that_is_not_there_is_not_ready(tmp_path) -> None:
    with pytest.raises(start.NotReady, match=r"Postgres \(No such file"):
        start.check_postgres(str(tmp_path / "none"), "qtrade_client", "qtrade")


def test_geyser_is_ready_when_it_speaks_http_2(geyser) -> None:
    listener, port = geyser
    with serving(listener, SETTINGS_FRAME) as asked:
        start.check_geyser("127.0.0.1", port, tls=False)
    assert asked[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0\0"])
def test_an_open_port_is_not_geyser(geyser, answer) -> None:
    listener, port = geyser
    with serving(listener, answer), pytest.raises(start.NotReady, match="Geyser"):
        start.check_geyser("127.0.0.1", port, tls=False)


def test_plain_text_is_no_tls(geyser) -> None:
    listener, port = geyser
    with serving(listener, SETTINGS_FRAME), pytest.raises(start.NotReady, match="Geyser"):
        start.check_geyser("127.0.0.1", port, tls=True)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "localhost.pem"
    path.write_bytes(made.public_bytes(form[0]) + key.private_bytes(*form))
    return path


def test_tls_is_spoken_with_a_server_that_the_cas_vouch_for_and_no_other(geyser, certificate, monkeypatch) -> None:
    listener, port = geyser
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    with serving(context.wrap_socket(listener, server_side=True), SETTINGS_FRAME):
        with pytest.raises(start.NotReady, match="Geyser"):
            start.check_geyser("localhost", port, tls=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        start.check_geyser("localhost", port, tls=True)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds


def failing_until(clock: Clock, at_s: float, reason: str) -> Callable[[], None]:
    def check() -> None:
        if clock() < at_s:
            raise start.NotReady(reason)

    return check


def test_waiting_feeds_the_watchdog_tells_each_change_once_and_never_spins(capsys) -> None:
    clock, said = Clock(), []
    checks = (failing_until(clock, 3, "Postgres"), failing_until(clock, 70, "Geyser"))
    assert start.wait(checks, 900, say=said.append, clock=clock, sleep=clock.sleep)
    assert said[0] == "WATCHDOG=1\nSTATUS=waits for Postgres, Geyser"
    assert all(text.startswith("WATCHDOG=1\n") for text in said)
    assert capsys.readouterr().err.splitlines() == ["waits for Postgres, Geyser", "waits for Geyser"]
    assert clock.sleeps == [1] * 60 + [5] * 2


def test_waiting_ends(capsys) -> None:
    clock = Clock()
    check = failing_until(clock, 1e9, "Geyser")
    assert not start.wait((check,), 900, say=lambda _: None, clock=clock, sleep=clock.sleep)
    assert 900 <= clock.now_s <= 905


def environment(tmp_path: Path, path: str, port: int, **values: str) -> dict[str, str]:
    config = tmp_path / "client.toml"
    config.write_text(render({"qtrade_client_geyser": f"127.0.0.1:{port}", "qtrade_client_rpc": "http://rpc.test"}))
    (tmp_path / "client_token").write_text("token")
    return {
        "QTRADE_CLIENT_CONFIG": str(config),
        "QTRADE_CLIENT_POSTGRES": path,
        "QTRADE_CLIENT_DATABASE": "qtrade",
        "QTRADE_CLIENT_DATABASE_USER": "qtrade_client",
        "QTRADE_CLIENT_WAIT_S": "60",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        **values,
    }


def test_the_client_takes_the_place_of_the_program_when_all_is_ready(tmp_path, postgres, geyser) -> None:
    (database, path), (stream, port) = postgres, geyser
    command = [sys.executable, "-I", "-S", "-B", PROGRAM, "/bin/sh", "-c", SAY]
    stream.close()
    with serving(database, LET_IN):
        child = subprocess.Popen(
            command, env=environment(tmp_path, path, port), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stderr is not None
        assert child.stderr.readline() == "waits for Geyser (Connection refused)\n"
        with serving(socket.create_server(("127.0.0.1", port)), SETTINGS_FRAME):
            out, _ = child.communicate(timeout=20)
    assert (child.returncode, out.split()) == (0, [str(child.pid), f"127.0.0.1:{port}", "http://rpc.test"])


def test_a_wait_in_vain_and_a_bad_config_end_with_codes_of_their_own(tmp_path, postgres, geyser) -> None:
    (database, path), (stream, port) = postgres, geyser
    stream.close()
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    values = environment(
        tmp_path, path, port, QTRADE_CLIENT_WAIT_S="0", NOTIFY_SOCKET=str(tmp_path / "notify"), PATH=os.environ["PATH"]
    )
    command = [sys.executable, "-I", "-S", "-B", PROGRAM, "/bin/true"]
    with serving(database, LET_IN):
        done = subprocess.run(command, env=values, check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (75, "waits for Geyser (Connection refused)\n")
    assert notified.recv(4096) == b"WATCHDOG=1\nSTATUS=waits for Geyser (Connection refused)"
    (tmp_path / "client.toml").write_text('mode = "sandbox"')
    done = subprocess.run(command, env=values, check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (78, "")
    assert "mode is 'sandbox', not paper or live" in done.stderr
    assert notified.recv(4096).startswith(b"STATUS=refuses its config")
    notified.close()
