"""What geyser promises."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

LIBRARY = "/opt/yellowstone/current/libyellowstone_grpc_geyser.so"
CONFIG_CHECK = "/opt/yellowstone/current/config-check"
BASE = "/etc/yellowstone/base.json"
LIVE = "/run/yellowstone/config.json"
PREPARE = "/usr/lib/qtrade/geyser/prepare.py"
STREAM = "/usr/lib/qtrade/geyser/stream.py"
DROP_IN = "/usr/lib/systemd/system/agave-validator.service.d/20-geyser.conf"
TLS_UNIT = "/usr/lib/systemd/system/qtrade-geyser-tls.service"
TEST_VALIDATOR = "/opt/agave/current/bin/solana-test-validator"
LOOPBACK = ("127.", "[::1]:", "unix://")
LABEL = re.compile(r'(\w+)="([^"]*)"')
WORK = "/run"  # of the chroot, in memory
# Starts the validator on the baked config and goes on as soon as the stream tells slots; its own words are kept for the failure.
LOAD_TEST = (
    f"{TEST_VALIDATOR} --reset --quiet --bind-address 127.0.0.1 --ledger {WORK}/ledger --geyser-plugin-config {BASE} "
    f">{WORK}/load-test.log 2>&1 & pid=$!; for try in $(seq 120); do kill -0 $pid 2>/dev/null || break; "
    f"{STREAM} --config {BASE} --seconds 20 >{WORK}/load-test.json && break; sleep 0.5; done; "
    f"{{metrics}} >{WORK}/load-test.metrics; kill $pid 2>/dev/null; wait $pid; echo $? >{WORK}/load-test.exit"
)


def baked(host: Host, name: str) -> Any:
    """Return an argument of the role as the layer was baked with it."""
    return json.loads(host.file("/usr/share/qtrade/arguments.d/geyser.json").content_string)["arguments"][name]


def read_metrics(host: Host) -> str:
    """Return the command that prints the plugin's metrics."""
    address = baked(host, "geyser_prometheus_address")
    return f"python3 -c \"import urllib.request as r; print(r.urlopen('http://{address}/metrics', timeout=10).read().decode())\""


def version(host: Host) -> str:
    """Return the version of the plugin."""
    return host.check_output("readlink /opt/yellowstone/current")


def rustc_of_validator(host: Host) -> str:
    """Return the rustc that version.yml beside the validator names; the bake holds it against the recipe and the build."""
    text = host.file("/opt/agave/current/version.yml").content_string
    return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("rustc:"))


def as_sol(host: Host, command: str) -> Any:
    """Run one of the commands that operator may run as the validator's user."""
    return host.run(f"sudo -n -u sol {command}")


@pytest.mark.layer
@pytest.mark.booted
def test_plugin_and_its_check_are_there(host: Host) -> None:
    assert "+solana." in version(host)
    assert host.file(LIBRARY).mode == 0o644
    assert host.file(CONFIG_CHECK).mode == 0o755


@pytest.mark.layer
@pytest.mark.booted
def test_config_check_takes_the_baked_config(host: Host) -> None:
    assert "Config is OK!" in host.check_output(f"{CONFIG_CHECK} --config {BASE}")


@pytest.mark.layer
@pytest.mark.parametrize(
    ("part", "key"), [((), "block_fail_action"), (("grpc",), "fail_on"), (("grpc", "listen", 0), "port")]
)
def test_keys_of_other_versions_are_refused(host: Host, part: tuple[Any, ...], key: str) -> None:
    config = json.loads(host.file(BASE).content_string)
    inner = config
    for step in part:
        inner = inner[step]
    inner[key] = "log"
    text = json.dumps(config)
    for program in (f"{PREPARE} --check", f"{CONFIG_CHECK} --config"):
        done = host.run(f"f=$(mktemp) && printf %s '{text}' >$f && {program} $f; code=$?; rm $f; exit $code")
        assert done.failed
        assert key in done.stderr


@pytest.mark.layer
@pytest.mark.booted
def test_image_serves_loopback_only_and_holds_no_token(host: Host) -> None:
    config = json.loads(host.file(BASE).content_string)
    assert config["libpath"] == LIBRARY
    addresses = [listen["address"] for listen in config["grpc"]["listen"]]
    assert addresses == baked(host, "geyser_grpc_listen")
    assert config["prometheus"] == {"address": baked(host, "geyser_prometheus_address")}
    assert [one for one in (*addresses, config["prometheus"]["address"]) if not one.startswith(LOOPBACK)] == []
    assert "x_token" not in config["grpc"]
    assert host.check_output("readlink /etc/yellowstone/config.json") == LIVE


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize(
    ("name", "unit"), [("geyser_x_token", DROP_IN), ("geyser_tls_cert", TLS_UNIT), ("geyser_tls_key", TLS_UNIT)]
)
def test_secrets_are_credentials_of_who_reads_them(host: Host, name: str, unit: str) -> None:
    lines = host.file(unit).content_string.splitlines()
    assert f"LoadCredentialEncrypted={name}:/run/qtrade/state/credstore/{name}" in lines
    assert f"SetCredential={name}:none" in lines


@pytest.mark.layer
@pytest.mark.booted
def test_the_validator_starts_with_its_config_made_and_its_key_laid(host: Host) -> None:
    lines = host.file(DROP_IN).content_string.splitlines()
    assert f"Environment=QTRADE_BEFORE_START={PREPARE}" in lines
    assert {"Wants=qtrade-geyser-tls.service", "After=qtrade-geyser-tls.service"} <= set(lines)


@pytest.mark.host
def test_the_unit_that_lays_the_key_is_well(host: Host) -> None:
    assert host.check_output("systemctl show -P ActiveState qtrade-geyser-tls.service") == "active"
    assert host.run("ls /run/yellowstone-tls").failed, "only the validator may read the key"


@pytest.mark.layer
def test_nobody_runs_more_than_the_proof_as_the_validator(host: Host) -> None:
    assert host.file("/etc/sudoers.d/20-geyser").mode == 0o440
    grants = [line for line in host.file("/etc/sudoers.d/20-geyser").content_string.splitlines() if " ALL = " in line]
    assert all(line.endswith("(sol) NOPASSWD: QTRADE_GEYSER") for line in grants)
    measure = "sudo -l -U operator -u sol /usr/lib/qtrade/geyser/measure.py"
    assert host.run(f"{measure} --streams 4 --seconds 60").succeeded
    for wrong in ("", "--streams 4", "--streams 4 --seconds 60 --config /etc/shadow", "--streams 400 --seconds 60"):
        assert host.run(f"{measure} {wrong}").failed


@pytest.mark.image
def test_plugin_is_of_the_minor_version_of_the_validator(host: Host) -> None:
    solana = version(host).partition("+solana.")[2]
    validator = host.check_output("/opt/agave/current/bin/agave-validator --version").split()[1]
    assert solana.split(".")[:2] == validator.split(".")[:2]


@pytest.mark.image
def test_validator_loads_the_plugin_and_streams(host: Host) -> None:
    """The load test: the baked validator, the baked plugin, the baked config; exit code 139 is what a pair that does not fit gives.

    What the plugin then says of itself has to be what it was baked for, and its compiler the validator's.
    """
    if not host.file(TEST_VALIDATOR).exists:
        pytest.skip("no load test: the build of the validator left out solana-test-validator (--no-build-dev-bins)")
    host.run(LOAD_TEST.format(metrics=read_metrics(host)))
    told, words, code = (host.file(f"{WORK}/load-test.{name}").content_string for name in ("json", "log", "exit"))
    crash = "; crashed: the plugin does not fit the validator by version or rustc" if code.strip() == "139" else ""
    assert json.loads(told or "{}").get("ok"), f"validator's exit code {code.strip()}{crash}: {told} {words[-1000:]}"
    metrics = host.file(f"{WORK}/load-test.metrics").content_string
    line = next(line for line in metrics.splitlines() if line.startswith("yellowstone_grpc_geyser_version{"))
    labels = dict(LABEL.findall(line))
    number, _, solana = version(host).partition("+solana.")
    solana = re.sub(r"[.](?=alpha|beta|rc)", "-", solana.partition("+")[0])  # tags write 4.2.0.rc.0, crates 4.2.0-rc.0
    rustc = rustc_of_validator(host)
    assert labels["version"].partition("+")[0] == number, (
        f"the image names plugin {number}, it says {labels['version']}"
    )
    assert labels["solana"] == solana, f"the image names a plugin for {solana}, the plugin says {labels['solana']}"
    assert labels["rustc"] == rustc, f"the validator is by rustc {rustc}, the plugin by rustc {labels['rustc']}"


@pytest.mark.host
def test_grpc_and_metrics_listen_where_the_role_declares(host: Host) -> None:
    """Metrics on loopback; gRPC where the host's config says, and on the image's port."""
    found = json.loads(host.file("/usr/share/qtrade/interfaces.d/geyser.json").content_string)["interfaces"]
    declared = {one["name"]: one for one in found}
    metrics, lines = declared["plugin-metrics"], host.check_output("ss -Hlnt").splitlines()
    listening = [line.split()[3] for line in lines]
    assert [one for one in listening if one.endswith(f":{metrics['port']}")] == [f"{metrics['bind']}:{metrics['port']}"]
    live = json.loads(host.file("/run/qtrade/state/config/current/geyser/host.json").content_string)["listen"]
    port = declared["grpc"]["port"]
    # Without a token the plugin falls back to loopback.
    allowed = {*live, f"127.0.0.1:{port}"} if live else {f"{declared['grpc']['bind']}:{port}"}
    served = {one for one in listening if one.endswith(f":{port}")}
    assert served
    assert served <= {one.replace("[::]", "*") for one in allowed} | allowed


@pytest.mark.host
def test_config_check_takes_the_live_config(host: Host) -> None:
    done = as_sol(host, f"{CONFIG_CHECK} --config {LIVE}")
    assert "Config is OK!" in done.stdout, done.stderr
    assert host.run(f"cat {LIVE}").failed, "only the validator may read the token"


@pytest.mark.host
def test_stream_tells_slots_to_who_has_the_token(host: Host) -> None:
    done = as_sol(host, STREAM)
    slots = json.loads(done.stdout)["slots"]
    assert done.rc == 0, done.stdout
    assert slots == sorted(slots)
    assert slots[-1] > slots[0]


@pytest.mark.host
@pytest.mark.parametrize("stranger", ["--without-token", "--wrong-token"])
def test_stream_is_refused_to_strangers_where_there_is_a_token(host: Host, stranger: str) -> None:
    """The token is optional: without it the stream is served on loopback, and there only."""
    done = as_sol(host, f"{STREAM} {stranger}")
    told = json.loads(done.stdout)
    assert "has_token" in told, done.stdout
    if told["has_token"]:
        assert (done.rc, told["status"]) == (2, "16"), done.stdout
    else:
        assert done.rc == 0, done.stdout
        assert not host.socket("tcp://0.0.0.0:10000").is_listening
        assert not host.socket("tcp://:::10000").is_listening


@pytest.mark.host
def test_metrics_have_the_names_of_this_version(host: Host) -> None:
    metrics = host.check_output(read_metrics(host))
    for name in ("version", "slot_status", "message_queue_size", "invalid_full_blocks_total"):
        assert f"yellowstone_grpc_geyser_{name}" in metrics
