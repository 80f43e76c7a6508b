"""The plugin stand-in where it hurts: token, stream to foreign clients, TLS, and the crash of a validator that it was not made for."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.towers import make_keypair

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
STANDINS = PROJECT / "tests/standins"
LIBRARY = STANDINS / "geyser/libyellowstone_grpc_geyser.so"
PREPARE = PROJECT / "ansible/roles/geyser/files/usr/lib/qtrade/geyser/prepare.py"
STREAM = PROJECT / "ansible/roles/geyser/files/usr/lib/qtrade/geyser/stream.py"
TOKEN = "0123456789abcdef-of-a-test"
NO_CORE = ["prlimit", "--core=0", "--"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(folder: Path, **grpc: Any) -> Path:
    """Write a config of free ports; its path."""
    config = {
        "libpath": str(LIBRARY),
        "grpc": {"listen": [{"address": f"127.0.0.1:{free_port()}"}], "x_token": TOKEN, **grpc},
        "prometheus": {"address": f"127.0.0.1:{free_port()}"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


@contextmanager
def loaded(config: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the test validator with the plugin, as soon as both its ports answer."""
    command = [
        STANDINS / "agave/bin/solana-test-validator",
        "--ledger",
        config.parent / "ledger",
        "--geyser-plugin-config",
        config,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as validator:
        try:
            deadline = time.monotonic() + 30
            port = int(json.loads(config.read_text())["prometheus"]["address"].rpartition(":")[2])
            while time.monotonic() < deadline and validator.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield validator
        finally:
            validator.kill()


def stream(config: Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [STREAM, "--config", config, *options], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, json.loads(done.stdout)


def curl(config: Path, method: str, message: bytes, *, token: str = TOKEN) -> subprocess.CompletedProcess[bytes]:
    """Call a unary method with a client of others: curl speaks HTTP/2 by nghttp2, Huffman codes and tables included."""
    address = json.loads(config.read_text())["grpc"]["listen"][0]["address"]
    headers = [
        word
        for header in ("content-type: application/grpc", "te: trailers", f"x-token: {token}")
        for word in ("-H", header)
    ]
    command = ["curl", "-sS", "--http2-prior-knowledge", "--include", *headers, "--data-binary", "@-"]
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    return subprocess.run(
        [*command, f"http://{address}/geyser.Geyser/{method}"],
        input=framed,
        capture_output=True,
        check=True,
        timeout=30,
    )


def test_the_stream_is_for_those_with_the_token(tmp_path) -> None:
    config = write_config(tmp_path)
    with loaded(config):
        code, told = stream(config)
        assert code == 0
        assert told["slots"][-1] > told["slots"][0]
        for stranger in ("--without-token", "--wrong-token"):
            code, told = stream(config, stranger)
            assert (code, told["status"], told["slots"]) == (2, "16", [])
        address = json.loads(config.read_text())["prometheus"]["address"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
    assert "yellowstone_grpc_geyser_unauthorized_count_total 2" in metrics
    assert 'solana="4.2.0",rustc="1.96.1"' in metrics


def test_without_a_token_in_its_config_everybody_is_served(tmp_path) -> None:
    config = write_config(tmp_path, x_token=None)
    with loaded(config):
        assert stream(config, "--without-token")[0] == 0


def test_the_stream_of_a_first_listener_that_is_a_socket(tmp_path) -> None:
    socket_path = tmp_path / "grpc"
    listeners = [{"address": f"unix://{socket_path}"}, {"address": f"127.0.0.1:{free_port()}"}]
    config = write_config(tmp_path, listen=listeners)
    with loaded(config):
        assert socket_path.is_socket()
        assert stream(config)[0] == 0
        assert stream(config, "--wrong-token")[0] == 2


def test_a_listener_by_name_ends_the_validator(tmp_path) -> None:
    config = write_config(tmp_path, listen=[{"address": f"localhost:{free_port()}"}])
    with loaded(config) as validator:
        assert validator.wait(timeout=30) == 1


def test_a_foreign_client_is_answered(tmp_path) -> None:
    config = write_config(tmp_path)
    with loaded(config):
        done = curl(config, "GetVersion", b"")
        assert b"grpc-status: 0" in done.stdout
        assert b'"solana": "4.2.0"' in done.stdout
        assert b"\x08\x07" in curl(config, "Ping", b"\x08\x07").stdout
        refused = curl(config, "GetVersion", b"", token="another-token-of-somebody").stdout
        assert b"grpc-status: 16" in refused
        assert b"4.2.0" not in refused
        assert b"grpc-status: 12" in curl(config, "SubscribeDeshred", b"").stdout


def test_subscriptions_beyond_the_limit_are_refused(tmp_path) -> None:
    config = write_config(tmp_path, subscription_limit=0, subscription_limit_enforce=True)
    with loaded(config):
        code, told = stream(config)
        assert (code, told["status"]) == (1, "8")


def make_pair(folder: Path) -> dict[str, str]:
    """Make a key and its certificate for one day; return their paths as the plugin's config names them."""
    folder.mkdir()
    pair = {"cert_path": str(folder / "crt"), "key_path": str(folder / "key")}
    make = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=test", "-days", "1"]
    subprocess.run([*make, "-keyout", pair["key_path"], "-out", pair["cert_path"]], check=True, capture_output=True)
    return pair


def test_tls_is_served_where_the_listener_has_it(tmp_path) -> None:
    listener = {"address": f"127.0.0.1:{free_port()}", "tls": {"identity": make_pair(tmp_path / "pair")}}
    config = write_config(tmp_path, listen=[listener])
    with loaded(config):
        assert stream(config)[0] == 0
        with pytest.raises((ssl.SSLError, OSError, subprocess.CalledProcessError)):
            curl(config, "GetVersion", b"")


def test_a_new_pair_is_served_without_a_restart(tmp_path) -> None:
    """The role's program lays them, as the unit does that a push of TLS secrets restarts: key first, over the files that are watched."""
    first, second = make_pair(tmp_path / "1"), make_pair(tmp_path / "2")
    laid = {"cert_path": str(tmp_path / "tls.crt"), "key_path": str(tmp_path / "tls.key")}
    port = free_port()

    def lay(pair: dict[str, str]) -> str:
        credentials = tmp_path / "credentials"
        credentials.mkdir(exist_ok=True)
        shutil.copy(pair["cert_path"], credentials / "geyser_tls_cert")
        shutil.copy(pair["key_path"], credentials / "geyser_tls_key")
        program = f"import runpy; m = runpy.run_path({str(PREPARE)!r}); m['lay_tls']({str(tmp_path)!r})"
        environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
        subprocess.run([sys.executable, "-B", "-c", program], check=True, env=environment)
        return Path(laid["cert_path"]).read_text().strip()

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=10).strip()

    before = lay(first)
    listener = {"address": f"127.0.0.1:{port}", "tls": {"identity": laid, "watch_file": True}}
    with loaded(write_config(tmp_path, listen=[listener])) as validator:
        assert served() == before
        after = lay(second)
        deadline = time.monotonic() + 30
        while served() != after:
            assert time.monotonic() < deadline, "the new certificate is not served"
            time.sleep(0.1)
        assert validator.poll() is None
    assert before != after


@pytest.mark.parametrize("program", ["solana-test-validator", "agave-validator"])
@pytest.mark.parametrize(
    ("before", "after", "version"),
    [("channel: v4.2.1", "channel: v4.3.0", "4.3.0"), ("rustc: 1.96.1", "rustc: 1.95.0", "4.2.1")],
    ids=["minor", "rustc"],
)
def test_a_validator_of_another_build_crashes_without_a_word(
    tmp_path, program: str, before: str, after: str, version: str
) -> None:
    shutil.copytree(STANDINS / "agave", tmp_path / "agave")
    document = tmp_path / "agave/version.yml"
    assert before in document.read_text()
    document.write_text(document.read_text().replace(before, after))
    binary = tmp_path / "agave/bin" / program
    text = binary.read_text()
    if program == "agave-validator":
        # What a test may not raise: the limits that the validator wants of its unit. Its version may be a constant.
        for wanted, lower in (
            ("1_000_000", "16"),
            ("2_000_000_000", "0"),
            ('VERSION = "4.2.1"', f'VERSION = "{version}"'),
        ):
            text = text.replace(wanted, lower)
    binary.write_text(text)
    (tmp_path / "identity.json").write_text(json.dumps(list(make_keypair(1))))
    config = write_config(tmp_path)
    options = ["--ledger", tmp_path / "ledger", "--geyser-plugin-config", config]
    (tmp_path / "ledger").mkdir()
    if program == "agave-validator":
        options += ["--identity", tmp_path / "identity.json", "--no-voting", "--no-xdp", "--no-os-network-limits-test"]
        options += ["--dynamic-port-range", "23000-23030", "--rpc-port", str(free_port())]
    done = subprocess.run([*NO_CORE, binary, *options], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert "Starting GeyserPluginService" in done.stdout.splitlines()[-1]
    shell = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *NO_CORE, binary, *options], capture_output=True, check=False, timeout=60
    )
    assert shell.returncode == 139


def test_keys_of_other_versions_end_the_validator_in_words(tmp_path) -> None:
    config = write_config(tmp_path, block_fail_action="log")
    with loaded(config) as validator:
        assert validator.wait(timeout=30) == 1
        assert validator.stdout
        words = validator.stdout.read()
    assert "FailedToLoadPlugin" in words
    assert "unknown field `block_fail_action`, expected one of `address`" in words
    done = subprocess.run(
        [STANDINS / "geyser/config-check", "--config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "unknown field `block_fail_action`" in done.stderr


@pytest.mark.parametrize(
    ("part", "value", "word"),
    [
        ("tokio", {"affinity": "0-4096"}, "core index must be in the range"),
        ("prometheus", {"adress": "x"}, "unknown field `adress`"),
        ("debug_clients_http", True, "unknown field `debug_clients_http`"),
    ],
)
def test_config_check_parses_as_the_plugin_does(tmp_path, part: str, value: object, word: str) -> None:
    config = write_config(tmp_path)
    command = [STANDINS / "geyser/config-check", "--config", config]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "Config is OK!\n"
    config.write_text(json.dumps({**json.loads(config.read_text()), part: value}))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert word in done.stderr
