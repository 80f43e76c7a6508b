"""What datadog promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

SERVICES = ("datadog-agent", "otelcol-contrib")
CREDENTIAL = "/run/qtrade/state/credstore/datadog_api_key"
AGENT_CONFIG = "/etc/datadog-agent/datadog.yaml"
COLLECTOR_CONFIG = "/etc/otelcol-contrib/config.yaml"
CHECK = "/usr/bin/python3 -IB /usr/lib/qtrade/datadog/check_collector.py"
# The Agent's commands and metrics, the Collector's health: no recipe changes them.
LISTENING = ("tcp://127.0.0.1:5001", "udp://127.0.0.1:8125", "tcp://127.0.0.1:13133")
# The program's own sources that any login may read, printed rather than sent.
READ_METRICS = (
    "cd /tmp && python3 -IBc \"import runpy, sys; m = runpy.run_path('/usr/lib/qtrade/datadog/host_metrics.py'); "
    "fast = m['fast_sources'](sys.argv[1:]); print(*(one.line() for one in m['collect'](fast)), sep=chr(10))\" {units}"
)
# The Agent's OTLP and APM, which a recipe may switch.
SWITCHED = (4317, 4318, 8126)
# The packages' own defaults: pprof, zpages, jaeger, zipkin, the Collector's telemetry.
CLOSED = (1777, 55679, 14250, 14268, 9411, 8888)
# Each is wanted by the package's datadog-agent.service, but never run; trace and process are, where the recipe asks for them.
MASKED = ("installer", "sysprobe", "security", "ddot")


def baked(host: Host, name: str) -> Any:
    """Return an argument of the role as the layer was baked with it."""
    return json.loads(host.file("/usr/share/qtrade/arguments.d/datadog.json").content_string)["arguments"][name]


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


@pytest.mark.booted
@pytest.mark.host
@pytest.mark.parametrize("unit", SERVICES)
def test_without_its_key_a_unit_waits_and_with_it_it_runs(host: Host, unit: str) -> None:
    shown = host.check_output(f"systemctl show --property=ActiveState,ConditionResult,NRestarts,Result {unit}.service")
    found = dict(line.split("=", 1) for line in shown.splitlines())
    assert (found["NRestarts"], found["Result"]) == ("0", "success")
    assert found["ActiveState"] == ("active" if found["ConditionResult"] == "yes" else "inactive")


@pytest.mark.layer
def test_no_key_is_baked(host: Host) -> None:
    config = host.file(AGENT_CONFIG)
    assert (config.user, config.mode) == ("dd-agent", 0o640)
    assert config.contains("^api_key: ENC")


@pytest.mark.layer
def test_nothing_updates_or_configures_the_agent_from_outside(host: Host) -> None:
    config = host.file(AGENT_CONFIG).content_string
    assert "\nremote_updates: false\n" in config
    assert "\nremote_configuration:\n  enabled: false\n" in config
    settings = yaml.safe_load(config)
    masked = [*MASKED, *([] if settings["apm_config"]["enabled"] else ["trace"])]
    masked += [] if settings["process_config"]["process_collection"]["enabled"] else ["process"]
    for name in masked:
        assert host.file(f"/etc/systemd/system/datadog-agent-{name}.service").linked_to == "/dev/null"
    assert host.run("grep -ril datadog /etc/apt").stdout == ""


@pytest.mark.layer
def test_no_identity_is_baked(host: Host) -> None:
    for name in ("install_info", "install.json", "hostname"):
        assert not host.file(f"/etc/datadog-agent/{name}").exists
    assert not host.file(AGENT_CONFIG).contains("^hostname:")


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
    assert host.run(f"{CHECK} {COLLECTOR_CONFIG}").succeeded
    config = host.file(COLLECTOR_CONFIG).content_string
    assert "0.0.0.0" not in config  # noqa: S104
    assert f"endpoint: {baked(host, 'datadog_otlp_grpc_endpoint')}" in config
    assert "key: ${file:${env:CREDENTIALS_DIRECTORY}/datadog_api_key}" in config


@pytest.mark.image
def test_collector_asks_where_the_other_roles_declare(host: Host) -> None:
    declared = {
        one["name"]: one
        for role in ("agave", "geyser", "postgres", "qtrade_client")
        for one in json.loads(host.file(f"/usr/share/qtrade/interfaces.d/{role}.json").content_string)["interfaces"]
    }
    receivers = yaml.safe_load(host.file(COLLECTOR_CONFIG).content_string)["receivers"]
    if baked(host, "datadog_collector_postgres_enabled"):
        assert receivers["postgresql"]["endpoint"] == f"run/postgresql:{declared['postgres']['port']}"
    scraped = {job["static_configs"][0]["targets"][0] for job in receivers["prometheus"]["config"]["scrape_configs"]}
    for name in ("plugin-metrics", "client-health"):
        assert f"{declared[name]['bind']}:{declared[name]['port']}" in scraped
    asked = [target["endpoint"] for target in receivers["httpcheck"]["targets"]]
    assert asked[0].endswith(f":{declared['json-rpc']['port']}/health")
    assert f"http://{declared['client-health']['bind']}:{declared['client-health']['port']}/healthz" in asked


@pytest.mark.layer
def test_collector_refuses_a_config_that_is_wrong(host: Host) -> None:
    script = f"sed 's/^  batch:$/  bach:/' {COLLECTOR_CONFIG} > /tmp/spec-wrong.yaml; {CHECK} /tmp/spec-wrong.yaml"
    answer = host.run(script)
    host.run("rm /tmp/spec-wrong.yaml")
    assert answer.rc != 0
    assert "bach" in answer.stderr


@pytest.mark.layer
def test_the_journal_goes_one_way_at_most(host: Host) -> None:
    by_agent = "\nlogs_enabled: true\n" in host.file(AGENT_CONFIG).content_string
    by_collector = "\n  journald:\n" in host.file(COLLECTOR_CONFIG).content_string
    assert not (by_agent and by_collector)
    assert host.file("/etc/datadog-agent/conf.d/journald.d/conf.yaml").exists == by_agent


@pytest.mark.layer
def test_host_metrics_come_by_a_timer_that_leaves_the_boot_alone(host: Host) -> None:
    assert host.file("/usr/lib/systemd/system/qtrade-host-metrics.timer").contains("^OnBootSec=5min$")


@pytest.mark.host
def test_host_metrics_are_read_without_a_failure(host: Host) -> None:
    """The timer first fires five minutes after the boot, so the program is run here, as a login that may read less than root."""
    if not baked(host, "datadog_host_metrics_enabled"):
        pytest.skip("this image sends no metrics of the host")
    units = " ".join(baked(host, "datadog_watched_units"))
    answer = host.run(READ_METRICS.format(units=units))
    assert answer.rc == 0, answer.stderr
    assert "qtrade.unit.active:1|g|#unit:ssh.service" in answer.stdout
    assert "qtrade.config.generation:" in answer.stdout
    assert "qtrade.validator.ready:" in answer.stdout
    for source in ("failed", "units", "boot", "validator"):
        assert f"qtrade.source.failed:0|g|#source:{source}" in answer.stdout, answer.stderr


@pytest.mark.booted
@pytest.mark.host
def test_host_metrics_have_failed_no_unit(host: Host) -> None:
    """Whether it has run yet, the unit says itself; the timer that starts it is on."""
    if not baked(host, "datadog_host_metrics_enabled"):
        pytest.skip("this image sends no metrics of the host")
    ask = "systemctl show --property={} {}"
    assert host.check_output(ask.format("ActiveState", "qtrade-host-metrics.timer")) == "ActiveState=active"
    shown = host.check_output(ask.format("Result,ExecMainStatus", "qtrade-host-metrics.service"))
    assert sorted(shown.split()) == ["ExecMainStatus=0", "Result=success"]


@pytest.mark.layer
def test_every_metric_source_that_is_missing_is_itself_a_metric(host: Host) -> None:
    # No systemd, no chrony, no boot facts in a chroot: the program ends well all the same.
    script = "mkdir -p /run/qtrade-host-metrics; python3 -IB /usr/lib/qtrade/datadog/host_metrics.py ssh.service"
    answer = host.run(f"{script}; code=$?; rm -r /run/qtrade-host-metrics; exit $code")
    assert answer.rc == 0, answer.stderr
    assert "boot: " in answer.stderr


def has_key(host: Host) -> bool:
    """Say whether the host was sent its API key, which is optional: the store of credentials is root's, the units looked for it."""
    return host.check_output("systemctl show --property=ConditionResult --value datadog-agent.service") == "yes"


@pytest.mark.host
@pytest.mark.parametrize("unit", SERVICES)
def test_service_runs_where_there_is_a_key(host: Host, unit: str) -> None:
    assert host.service(unit).is_running == has_key(host)


@pytest.mark.host
@pytest.mark.parametrize("address", LISTENING)
def test_listens_on_loopback_where_there_is_a_key(host: Host, address: str) -> None:
    assert host.socket(address).is_listening == has_key(host)


@pytest.mark.layer
def test_collector_may_read_the_validators_log_and_no_data_of_it(host: Host) -> None:
    drop_in = host.file("/etc/systemd/system/otelcol-contrib.service.d/10-qtrade.conf").content_string
    config = yaml.safe_load(host.file(COLLECTOR_CONFIG).content_string)
    is_read = "filelog" in config["service"]["pipelines"]["logs"]["receivers"]
    assert ("SupplementaryGroups=sol" in drop_in.splitlines()) == is_read
    # What it knows by heart outlives an image.
    assert config["receivers"].get("filelog", {}).get("storage", "file_storage") == "file_storage"


@pytest.mark.host
def test_the_validators_log_is_its_groups_to_read(host: Host) -> None:
    log = host.check_output("stat --format='%U:%G %a' /var/log/agave/validator.log")
    assert log == "sol:sol 640"
    assert host.file("/var/log/agave").mode == 0o755


@pytest.mark.host
def test_collector_listens_where_it_was_baked_to_where_there_is_a_key(host: Host) -> None:
    addresses = [baked(host, f"datadog_otlp_{kind}_endpoint") for kind in ("grpc", "http")]
    addresses.append(f"127.0.0.1:{baked(host, 'datadog_collector_telemetry_port')}")
    assert {one: host.socket(f"tcp://{one}").is_listening for one in addresses} == dict.fromkeys(
        addresses, has_key(host)
    )


@pytest.mark.host
@pytest.mark.parametrize("port", SWITCHED)
def test_what_a_recipe_switches_is_on_loopback_or_closed(host: Host, port: int) -> None:
    # The config is the Agent's alone to read; its unit tells which of these it brings.
    assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening
    assert not host.socket(f"tcp://:::{port}").is_listening


@pytest.mark.host
@pytest.mark.parametrize("port", CLOSED)
def test_default_ports_are_closed(host: Host, port: int) -> None:
    assert not host.socket(f"tcp://{port}").is_listening


@pytest.mark.host
def test_collector_is_healthy_where_it_runs(host: Host) -> None:
    if not has_key(host):
        pytest.skip("this host has no API key, so nothing runs")
    command = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:13133').status)\""
    assert host.check_output(command) == "200"
