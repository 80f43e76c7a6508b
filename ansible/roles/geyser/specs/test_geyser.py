"""What geyser promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

LIBRARY = "/opt/yellowstone/current/libyellowstone_grpc_geyser.so"
TOP_KEYS = {"libpath", "log", "tokio", "grpc", "prometheus"}


def read_version(host: Host, path: str) -> dict[str, str]:
    """Return version.yml of a component."""
    return yaml.safe_load(host.file(path).content_string)


@pytest.mark.layer
@pytest.mark.booted
def test_current_is_the_version_that_was_built(host: Host) -> None:
    version = read_version(host, "/opt/yellowstone/current/version.yml")
    assert host.check_output("readlink /opt/yellowstone/current") == version["version"]
    assert version["version"].endswith(f"+solana.{version['solana']}")
    assert host.file(LIBRARY).mode == 0o644


@pytest.mark.layer
@pytest.mark.booted
def test_config_has_only_known_keys(host: Host) -> None:
    config = json.loads(host.file("/etc/yellowstone/config.json").content_string)
    assert set(config) <= TOP_KEYS
    assert config["libpath"] == LIBRARY
    assert config["prometheus"]["address"].startswith("127.0.0.1:")


@pytest.mark.layer
@pytest.mark.booted
def test_plugin_fits_the_validator(host: Host) -> None:
    if not host.file("/opt/agave/current").exists:
        pytest.skip("no validator in these layers")
    solana = read_version(host, "/opt/yellowstone/current/version.yml")["solana"]
    validator = host.check_output("/opt/agave/current/bin/agave-validator --version").split()[1]
    assert solana.split(".")[:2] == validator.split(".")[:2]


@pytest.mark.host
def test_grpc_and_metrics_listen(host: Host) -> None:
    assert host.socket("tcp://0.0.0.0:10000").is_listening
    assert host.socket("tcp://127.0.0.1:8999").is_listening


@pytest.mark.host
def test_metrics_have_the_names_of_this_version(host: Host) -> None:
    command = (
        "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8999/metrics').read().decode())\""
    )
    metrics = host.check_output(command)
    for name in ("version", "slot_status", "message_queue_size", "invalid_full_blocks_total"):
        assert f"yellowstone_grpc_geyser_{name}" in metrics
