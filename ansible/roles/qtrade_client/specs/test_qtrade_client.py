"""What qtrade_client promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

UNIT = "/usr/lib/systemd/system/qtrade-client.service"
CREDENTIAL = "/run/qtrade/state/credstore/client_token"
SANDBOX = (
    "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateDevices=yes", "PrivateTmp=yes",
    "CapabilityBoundingSet=", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service",
)  # fmt: skip


@pytest.mark.layer
@pytest.mark.booted
def test_current_is_the_version_that_was_built(host: Host) -> None:
    version = host.check_output("/opt/qtrade-client/current/bin/qtrade-client --version").split()[1]
    assert host.check_output("readlink /opt/qtrade-client/current") == version


@pytest.mark.layer
def test_unit_is_enabled_and_waits_for_its_token(host: Host) -> None:
    assert host.check_output("systemctl is-enabled qtrade-client.service") == "enabled"
    unit = host.file(UNIT).content_string.splitlines()
    assert f"ConditionPathExists={CREDENTIAL}" in unit
    assert f"LoadCredentialEncrypted=client_token:{CREDENTIAL}" in unit


@pytest.mark.layer
@pytest.mark.parametrize("line", SANDBOX)
def test_unit_is_sandboxed(host: Host, line: str) -> None:
    assert line in host.file(UNIT).content_string.splitlines()


@pytest.mark.layer
def test_client_refuses_to_run_without_its_token(host: Host) -> None:
    done = host.run("/opt/qtrade-client/current/bin/qtrade-client")
    assert done.failed
    assert "client_token" in done.stderr


@pytest.mark.host
def test_client_runs_on_loopback_only(host: Host) -> None:
    assert host.service("qtrade-client").is_running
    assert host.socket("tcp://127.0.0.1:9600").is_listening
    assert not host.socket("tcp://0.0.0.0:9600").is_listening


@pytest.mark.host
def test_client_reaches_postgres_and_geyser(host: Host) -> None:
    probe = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9600/healthz', timeout=10).read().decode())"
    health = json.loads(host.check_output(f'python3 -c "{probe}"'))
    assert (health["status"], health["postgres"], health["geyser"]) == ("ok", True, True)


@pytest.mark.host
def test_token_is_for_the_client_only(host: Host) -> None:
    assert host.run("cat /run/credentials/qtrade-client.service/client_token").failed
