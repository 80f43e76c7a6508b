"""The config that the plugin is loaded with: what is served to whom, and what is refused before the validator starts."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.unit

ROLE = Path(__file__).parents[3] / "ansible/roles/geyser"
CONFIG_CHECK = Path(__file__).parents[2] / "standins/geyser/config-check"
TOKEN = "a-token-of-this-host"
BASE: dict[str, Any] = {
    "libpath": "/opt/yellowstone/current/libyellowstone_grpc_geyser.so",
    "grpc": {"listen": [{"address": "127.0.0.1:10000"}]},
    "prometheus": {"address": "127.0.0.1:8999"},
}
KEYS = json.loads((ROLE / "files/usr/share/qtrade/geyser/known_keys.json").read_text())


def load_prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROLE / "files/usr/lib/qtrade/geyser/prepare.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = load_prepare()


def make(secrets: dict[str, str] | None = None, cores: int = 8, **host: Any) -> tuple[dict[str, Any], list[str]]:
    return prepare.make_config(BASE, host, secrets or {}, cores)


def addresses(config: dict[str, Any]) -> list[str]:
    return [item["address"] for item in config["grpc"]["listen"]]


def test_a_host_that_says_nothing_serves_loopback_without_a_token() -> None:
    config, notes = make()
    assert addresses(config) == ["127.0.0.1:10000"]
    assert "x_token" not in config["grpc"]
    assert notes == ["the secret geyser_x_token is not there: gRPC is served on loopback only"]


def test_with_the_token_the_host_listens_where_its_config_says() -> None:
    wanted = ["[::]:10000", "unix:///run/yellowstone/grpc"]
    config, notes = make({"geyser_x_token": TOKEN}, listen=wanted)
    assert (addresses(config), config["grpc"]["x_token"], notes) == (wanted, TOKEN, [])


@pytest.mark.parametrize(
    "taken",
    [
        ["0.0.0.0:10000", "[::]:10000"],
        ["[::]:10000", "192.0.2.1:10000"],
        ["[::1]:10000", "[::]:10000"],
        ["0.0.0.0:10000", "127.0.0.1:10000"],
    ],
)
def test_two_listeners_of_which_one_takes_the_others_port_are_refused(taken: list[str]) -> None:
    with pytest.raises(prepare.Refused, match="which that has taken: leave one"):
        make({"geyser_x_token": TOKEN}, listen=taken)
    # Without the token both are on loopback: one listener, or two that do not meet.
    make(listen=[item for item in taken if item.startswith(("0.", "[::]"))])


def test_listeners_that_do_not_meet_are_served() -> None:
    wanted = ["0.0.0.0:10000", "[2001:db8::1]:10000", "127.0.0.1:10001"]
    config, _ = make({"geyser_x_token": TOKEN}, listen=wanted)
    assert addresses(config) == wanted


def test_without_a_token_nothing_beyond_loopback_is_served() -> None:
    wanted = ["0.0.0.0:10000", "[::]:10000", "192.0.2.1:10000", "[::1]:10002", "unix:///run/x"]
    config, _ = make(listen=wanted)
    assert addresses(config) == ["127.0.0.1:10000", "[::1]:10002", "unix:///run/x"]


@pytest.mark.parametrize("secrets", [{"geyser_x_token": TOKEN}, {}])
def test_a_port_that_the_image_does_not_serve_is_refused_beyond_loopback(secrets) -> None:
    with pytest.raises(
        prepare.Refused, match=r"geyser_listen names 192\.0\.2\.1:10001, the image serves gRPC on port 10000"
    ):
        make(secrets, listen=["127.0.0.1:7", "192.0.2.1:10001"])


@pytest.mark.parametrize(
    "address",
    [
        "localhost:10000",
        "host.example:10000",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "::1:10000",
        "[127.0.0.1]:10000",
        "[::1]",
        "unix:/run/x",
        "unix://run/x",
        "[fe80::1%eth0]:x",
    ],
)
def test_a_listener_that_the_plugin_cannot_parse_is_refused(address: str) -> None:
    with pytest.raises(prepare.Refused, match="geyser_listen has") as caught:
        make({"geyser_x_token": TOKEN}, listen=["127.0.0.1:10000", address])
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize(
    "token", ["short", "with space in the token", 'quote"in-the-middle-', "umlaut-ü-in-the-middle", "x" * 513]
)
def test_what_no_header_carries_is_no_token(token: str) -> None:
    with pytest.raises(prepare.Refused, match="geyser_x_token is no token") as caught:
        make({"geyser_x_token": token})
    assert token not in str(caught.value)


def lay(folder: Path, cert: str, key: str) -> None:
    """Lay a pair as the unit does that a push of TLS secrets restarts."""
    credentials = folder / "credentials"
    credentials.mkdir(exist_ok=True)
    (credentials / "geyser_tls_cert").write_text(cert)
    (credentials / "geyser_tls_key").write_text(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
        patch.setattr(prepare, "TLS", str(folder))
        assert prepare.main(["--tls"]) == 0


def test_tls_from_credentials_is_watched_on_tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "CERT", "KEY")
    monkeypatch.setattr(prepare, "TLS", str(tmp_path))
    config, notes = make({"geyser_x_token": TOKEN}, listen=["0.0.0.0:10000"], tls="credentials")
    identity = {"cert_path": f"{tmp_path}/tls.crt", "key_path": f"{tmp_path}/tls.key"}
    tls = {"identity": identity, "watch_file": True}
    assert config["grpc"]["listen"] == [{"address": "0.0.0.0:10000", "tls": tls}]
    assert notes == []


def test_a_new_pair_is_written_over_the_files_that_the_plugin_watches(tmp_path: Path) -> None:
    lay(tmp_path, "CERT", "KEY")
    files = [tmp_path / "tls.key", tmp_path / "tls.crt"]
    before = [file.stat() for file in files]
    assert [one.st_mode & 0o777 for one in before] == [0o600, 0o600]
    lay(tmp_path, "CERT", "KEY")
    assert [file.stat().st_mtime_ns for file in files] == [one.st_mtime_ns for one in before], "written for nothing"
    lay(tmp_path, "C", "ANOTHER KEY")
    assert [file.read_text() for file in files] == ["ANOTHER KEY\n", "C\n"]
    assert [file.stat().st_ino for file in files] == [one.st_ino for one in before]


@pytest.mark.parametrize(("cert", "key"), [("none", "KEY"), ("CERT", "none"), ("none", "none")])
def test_half_a_pair_is_none(tmp_path: Path, cert: str, key: str) -> None:
    lay(tmp_path, "CERT", "KEY")
    lay(tmp_path, cert, key)
    assert [path.name for path in tmp_path.iterdir()] == ["credentials"]


def test_tls_from_files_is_watched(tmp_path: Path) -> None:
    for name in ("crt", "key"):
        (tmp_path / name).write_text("x")
    pair = {"tls_cert_file": str(tmp_path / "crt"), "tls_key_file": str(tmp_path / "key")}
    config, _ = make({"geyser_x_token": TOKEN}, tls="files", **pair)
    assert config["grpc"]["listen"][0]["tls"]["watch_file"] is True


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ({"tls": "credentials"}, "geyser_tls_cert"),
        ({"tls": "files", "tls_cert_file": "/nonexistent/crt", "tls_key_file": "/nonexistent/key"}, "/nonexistent/crt"),
        ({"tls": "files"}, "no path"),
        ({"tls": "yes"}, "off, credentials and files"),
    ],
)
def test_without_the_tls_that_was_asked_for_only_loopback_is_served(host: dict[str, str], word: str) -> None:
    config, notes = make({"geyser_x_token": TOKEN}, listen=["0.0.0.0:10000"], **host)
    assert config["grpc"]["listen"] == [{"address": "127.0.0.1:10000"}]
    assert len(notes) == 1
    assert word in notes[0]


def test_threads_are_those_of_the_host() -> None:
    config, _ = make(tokio_affinity="0-1,7", tokio_worker_threads=3)
    assert config["tokio"] == {"affinity": "0-1,7", "worker_threads": 3}
    assert "tokio" not in make(tokio_affinity="", tokio_worker_threads=0)[0]


@pytest.mark.parametrize(
    ("cores", "word"), [("0-8", "names core 8, the host has 0 to 7"), ("a-b", "no list"), ("5-2", "no core")]
)
def test_cores_that_the_host_does_not_have_are_refused(cores: str, word: str) -> None:
    with pytest.raises(prepare.Refused, match=word):
        make(tokio_affinity=cores)


@pytest.mark.parametrize(
    ("plugin", "validator", "fits"),
    [
        ("15.1.2+solana.4.2.0", "4.2.1", True),
        ("15.1.2+solana.4.2.0", "4.3.0", False),
        ("15.1.2+solana.4.2.0", "5.2.0", False),
        ("15.1.2", "4.2.1", False),
    ],
)
def test_a_plugin_of_another_minor_version_is_refused(plugin: str, validator: str, *, fits: bool) -> None:
    if fits:
        prepare.check_pair(plugin, validator)
    else:
        with pytest.raises(prepare.Refused, match="it would crash"):
            prepare.check_pair(plugin, validator)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"block_fail_action": "log"}, "block_fail_action"),
        ({"grpc": {"fail_on": 1}}, "grpc.fail_on"),
        ({"grpc": {"listen": [{"address": "x", "tsl": {}}]}}, "grpc.listen[].tsl"),
        ({"grpc": {"listen": [{"tls": {"identity": {"cert": "x"}}}]}}, "grpc.listen[].tls.identity.cert"),
        ({"grpc": {"compression": {"take": []}}}, "grpc.compression.take"),
        ({"grpc": {"filter_limits": {"account": {}}}}, "grpc.filter_limits.account"),
        ({"tokio": {"threads": 1}}, "tokio.threads"),
        ({"prometheus": {"port": 1}}, "prometheus.port"),
        ({"debug_clients_http": True}, "debug_clients_http"),
    ],
)
def test_keys_that_the_version_denies_are_named(change: dict[str, Any], path: str) -> None:
    with pytest.raises(prepare.Refused, match="Yellowstone 15 does not know") as caught:
        prepare.check_keys({**BASE, **change}, "15.1.2+solana.4.2.0", KEYS)
    assert path in str(caught.value)


def test_the_table_follows_the_version() -> None:
    prepare.check_keys({**BASE, "debug_clients_http": True}, "14.2.4+solana.4.1.0", KEYS)
    with pytest.raises(prepare.Refused, match=r"Yellowstone 17 \(known: 14, 15\)"):
        prepare.check_keys(BASE, "17.0.0+solana.4.4.0", KEYS)


def test_everything_that_is_made_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a host may ask for, the plugin takes."""
    lay(tmp_path, "CERT", "KEY")
    monkeypatch.setattr(prepare, "TLS", str(tmp_path))
    wanted = {"tls": "credentials", "tokio_affinity": "0", "tokio_worker_threads": 1}
    config, _ = make({"geyser_x_token": TOKEN}, listen=["0.0.0.0:10000"], **wanted)
    assert config["grpc"]["listen"][0]["tls"]
    prepare.check_keys(config, "15.1.2+solana.4.2.0", KEYS)


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: dict[str, Any], token: str, validator: str = "4.2.1"
) -> int:
    """Run the program on folders of a host below `tmp_path`; return its exit code."""
    for name, version in (("PLUGIN", "15.1.2+solana.4.2.0"), ("VALIDATOR", validator)):
        (tmp_path / name).symlink_to(version)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/geyser_x_token").write_text(f"{token}\n")
    for name, document in (("BASE", BASE), ("HOST", host), ("KEYS", KEYS)):
        (tmp_path / name).write_text(json.dumps(document))
    monkeypatch.setattr(prepare.run_config_check, "__defaults__", (str(CONFIG_CHECK),))
    for name in ("PLUGIN", "VALIDATOR", "BASE", "HOST", "KEYS"):
        monkeypatch.setattr(prepare, name, str(tmp_path / name))
    monkeypatch.setattr(prepare, "TARGET", str(tmp_path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    return int(prepare.main([]))


def test_the_config_is_written_for_its_owner_only(tmp_path, monkeypatch, capsys) -> None:
    assert run(tmp_path, monkeypatch, {"listen": ["0.0.0.0:10000"]}, TOKEN) == 0
    assert json.loads((tmp_path / "config.json").read_text())["grpc"]["x_token"] == TOKEN
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600
    assert TOKEN not in "".join(capsys.readouterr())


def test_what_the_unit_sets_for_a_missing_secret_is_no_token(tmp_path, monkeypatch, capsys) -> None:
    assert run(tmp_path, monkeypatch, {"listen": ["0.0.0.0:10000"]}, "none") == 0
    assert addresses(json.loads((tmp_path / "config.json").read_text())) == ["127.0.0.1:10000"]
    assert "geyser_x_token is not there" in capsys.readouterr().err


def test_a_pair_that_does_not_fit_ends_with_bad_config(tmp_path, monkeypatch, capsys) -> None:
    assert run(tmp_path, monkeypatch, {}, TOKEN, validator="4.3.0") == 78
    assert "was built for Agave 4.2.0, but Agave 4.3.0 is to load it" in capsys.readouterr().err
    assert not (tmp_path / "config.json").exists()


def test_cores_are_compared_with_those_of_this_machine(tmp_path, monkeypatch, capsys) -> None:
    beyond = max(os.sched_getaffinity(0)) + 1
    assert run(tmp_path, monkeypatch, {"tokio_affinity": str(beyond)}, TOKEN) == 78
    assert f"names core {beyond}" in capsys.readouterr().err


def test_a_damaged_config_ends_in_words(tmp_path, monkeypatch, capsys) -> None:
    assert run(tmp_path, monkeypatch, {}, TOKEN) == 0
    (tmp_path / "HOST").write_text('{"listen": [')
    assert prepare.main([]) == 78
    assert capsys.readouterr().err.startswith("<3>geyser: ")


def test_what_only_the_releases_own_program_refuses_ends_with_bad_config(tmp_path, monkeypatch, capsys) -> None:
    """The table knows the key, and cannot know the value."""
    wrong = {**BASE, "tokio": {"affinity": "0-4096"}}
    prepare.check_keys(wrong, "15.1.2+solana.4.2.0", KEYS)
    monkeypatch.setitem(BASE, "tokio", wrong["tokio"])
    assert run(tmp_path, monkeypatch, {}, TOKEN) == 78
    assert (
        "config-check does not take the config: Error: Error reading config file: core index" in capsys.readouterr().err
    )


def test_config_check_tells_no_secret(tmp_path) -> None:
    program = tmp_path / "config-check"
    program.write_text('#!/bin/sh\ncat "$2" >&2\nexit 1\n')
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"grpc": {"x_token": TOKEN}}))
    with pytest.raises(prepare.Refused, match="x_token") as caught:
        prepare.run_config_check(str(tmp_path / "config.json"), {"geyser_x_token": TOKEN}, str(program))
    assert TOKEN not in str(caught.value)
