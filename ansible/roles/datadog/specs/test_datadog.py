"""What datadog promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

SERVICES = ("datadog-agent", "otelcol-contrib")
CREDENTIAL = "/run/qtrade/state/credstore/datadog_api_key"
LISTENING = [
    "tcp://127.0.0.1:5001",
    "tcp://127.0.0.1:8126",
    "tcp://127.0.0.1:4317",
    "tcp://127.0.0.1:4318",
    "udp://127.0.0.1:8125",
]
LISTENING += ["tcp://127.0.0.1:14317", "tcp://127.0.0.1:14318", "tcp://127.0.0.1:13133"]
CLOSED = (1777, 55679, 14250, 14268, 9411)


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize("package", SERVICES)
def test_package_is_installed(host: Host, package: str) -> None:
    assert host.package(package).is_installed


@pytest.mark.layer
@pytest.mark.parametrize("unit", SERVICES)
def test_unit_waits_for_its_credential(host: Host, unit: str) -> None:
    assert host.check_output(f"systemctl is-enabled {unit}.service") == "enabled"
    drop_in = host.file(f"/etc/systemd/system/{unit}.service.d/10-qtrade.conf").content_string
    assert f"ConditionPathExists={CREDENTIAL}" in drop_in
    assert f"LoadCredentialEncrypted=datadog_api_key:{CREDENTIAL}" in drop_in


@pytest.mark.layer
def test_no_key_is_baked(host: Host) -> None:
    config = host.file("/etc/datadog-agent/datadog.yaml")
    assert (config.user, config.mode) == ("dd-agent", 0o640)
    assert config.contains("^api_key: ENC")


@pytest.mark.layer
def test_secret_backend_answers_as_the_agent_asks(host: Host) -> None:
    backend = host.file("/usr/lib/qtrade/datadog/secret_backend.py")
    assert (backend.user, backend.mode) == ("dd-agent", 0o500)
    script = "mkdir /tmp/spec-creds; printf abc > /tmp/spec-creds/datadog_api_key;"
    ask = (
        """echo '{"version": "1.1", "secrets": ["datadog_api_key", "other"]}' | CREDENTIALS_DIRECTORY=/tmp/spec-creds"""
    )
    answer = json.loads(
        host.check_output(f"{script} {ask} /usr/lib/qtrade/datadog/secret_backend.py; rm -r /tmp/spec-creds")
    )
    assert answer["datadog_api_key"] == {"value": "abc", "error": None}
    assert answer["other"]["value"] is None


@pytest.mark.layer
def test_collector_accepts_its_config_and_stays_on_loopback(host: Host) -> None:
    assert host.run("/usr/bin/otelcol-contrib validate --config=/etc/otelcol-contrib/config.yaml").succeeded
    config = host.file("/etc/otelcol-contrib/config.yaml").content_string
    assert "0.0.0.0" not in config  # noqa: S104
    assert "endpoint: 127.0.0.1:14317" in config


@pytest.mark.host
@pytest.mark.parametrize("unit", SERVICES)
def test_service_runs(host: Host, unit: str) -> None:
    assert host.service(unit).is_running


@pytest.mark.host
@pytest.mark.parametrize("address", LISTENING)
def test_listens_on_loopback(host: Host, address: str) -> None:
    assert host.socket(address).is_listening


@pytest.mark.host
@pytest.mark.parametrize("port", CLOSED)
def test_default_ports_of_the_collector_are_closed(host: Host, port: int) -> None:
    assert not host.socket(f"tcp://{port}").is_listening


@pytest.mark.host
def test_collector_is_healthy(host: Host) -> None:
    command = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:13133').status)\""
    assert host.check_output(command) == "200"
