"""The Collector's config, rendered as the bake does, judged by the stand-in that is as strict as the original."""

import copy
import importlib.machinery
import importlib.util
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

pytestmark = pytest.mark.unit
NOBODY, VALIDATOR = 65534, 420
PROJECT = Path(__file__).resolve().parents[3]
ROLE = PROJECT / "ansible/roles/datadog"
STANDIN = PROJECT / "tests/standins/otelcol/usr/bin/otelcol-contrib"
VERSIONS = ("0.121.0", "0.137.0", "0.153.0", "0.159.0")
LENDERS = ("agave", "geyser", "postgres", "qtrade_client")
TOGGLES = ("journald", "hostmetrics", "postgres", "validator_log")


def load_standin() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("otelcol_standin", str(STANDIN))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("otelcol_standin", loader))
    loader.exec_module(module)
    return module


COLLECTOR = load_standin()


def trusted(node: Any) -> Any:
    """Let Ansible treat our own files' texts as templates."""
    if isinstance(node, dict):
        return {key: trusted(value) for key, value in node.items()}
    if isinstance(node, list):
        return [trusted(value) for value in node]
    return trust_as_template(node) if isinstance(node, str) else node


def render(**changes: Any) -> str:
    variables = {
        name: value
        for role in LENDERS
        for name, value in trusted(yaml.safe_load((ROLE.parent / role / "defaults/main.yml").read_text())).items()
    }
    for name in ("defaults", "vars"):
        variables |= trusted(yaml.safe_load((ROLE / name / "main.yml").read_text()))
    templar = Templar(loader=DataLoader(), variables=variables | changes)
    text = trust_as_template((ROLE / "templates/etc/otelcol-contrib/config.yaml.j2").read_text())
    return str(templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True}))


@pytest.fixture
def credentials(tmp_path, monkeypatch) -> Path:
    (tmp_path / "datadog_api_key").write_text("0123456789abcdef" * 2)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def check(text: str, version: str) -> dict[str, Any]:
    there = text.replace("/var/lib/otelcol-contrib", os.environ["CREDENTIALS_DIRECTORY"])
    config = COLLECTOR.parse_yaml(COLLECTOR.expand(there))
    COLLECTOR.check_config(config, version)
    return config


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("off", [(), *((one,) for one in TOGGLES), TOGGLES])
def test_every_version_and_toggle_gives_a_config_that_the_collector_takes(credentials, version, off) -> None:
    toggles = {f"datadog_collector_{one}_enabled": one not in off for one in TOGGLES}
    text = render(datadog_collector_version=version, **toggles)
    config = check(text, version)
    # The stand-in's YAML reader is our own: PyYAML has to read the same.
    there = text.replace("/var/lib/otelcol-contrib", os.environ["CREDENTIALS_DIRECTORY"])
    assert config == yaml.safe_load(COLLECTOR.expand(there))
    addresses = COLLECTOR.find_listeners(config)
    assert len(addresses) == 4
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    assert not {4317, 4318, 5000, 5001, 8126} & {int(address.rpartition(":")[2]) for address in addresses}
    journald = "journald" in config["service"]["pipelines"]["logs"]["receivers"]
    assert journald == ("journald" in config["receivers"]) == ("journald" not in off)
    filelog = "filelog" in config["service"]["pipelines"]["logs"]["receivers"]
    assert filelog == ("filelog" in config["receivers"]) == ("validator_log" not in off)


def test_names_follow_the_version(credentials) -> None:
    old, new = (check(render(datadog_collector_version=one), one) for one in ("0.152.0", "0.153.0"))
    assert "resourcedetection" in old["processors"]
    assert "resource_detection" in new["processors"]
    with pytest.raises(COLLECTOR.ConfigError, match='unknown type: "resource_detection"'):
        check(render(datadog_collector_version="0.153.0"), "0.152.0")


def test_bodies_are_looked_at_where_the_version_can(credentials) -> None:
    validator = check(render(datadog_collector_version="0.137.0"), "0.137.0")["receivers"]["httpcheck"]["targets"][0]
    assert validator["validations"] == [{"contains": "ok"}]
    with pytest.raises(COLLECTOR.ConfigError, match="invalid keys: validations"):
        check(render(datadog_collector_version="0.137.0"), "0.121.0")


LINES = [
    ("[2026-01-02T03:04:05.678901234Z ERROR solana_core::x] out of disk", "ERROR"),
    ("[2026-01-02T03:04:05.678901234Z WARN  solana_gossip::x] behind", "WARN"),
    ("[2026-01-02T03:04:05.678901234Z INFO  solana_metrics] datapoint: x", "INFO"),
    ("thread 'main' panicked at core/src/validator.rs:1:2:", None),
]


@pytest.mark.parametrize(
    ("level", "sent"),
    [("error", {"ERROR", None}), ("warn", {"ERROR", "WARN", None}), ("trace", {one for _, one in LINES})],
)
def test_the_validators_log_is_sent_from_a_level_on_and_panics_always(credentials, level, sent) -> None:
    filelog = check(render(datadog_validator_log_level=level), "0.121.0")["receivers"]["filelog"]
    # A line that was written just before the rotation is in the file that logrotate left beside it.
    assert filelog["include"] == ["/var/log/agave/validator.log", "/var/log/agave/validator.log.1"]
    assert (filelog["start_at"], filelog["storage"]) == ("beginning", "file_storage")
    parser, *filters = filelog["operators"]
    condition = re.fullmatch(r'body matches "(.+)"', parser["if"])[1]
    unwanted = json.loads(re.fullmatch(r"attributes\.level in (\[.+\])", filters[0]["expr"])[1]) if filters else []
    found = set()
    for line, wanted in LINES:
        match = re.match(parser["regex"], line)
        assert (match is not None) == (re.match(condition, line) is not None)
        assert (match["level"] if match else None) == wanted
        if not (match and match["level"] in unwanted):
            found.add(wanted)
    assert found == sent


@pytest.mark.parametrize(("groups", "is_read"), [([NOBODY, VALIDATOR], True), ([NOBODY], False)])
def test_the_log_is_read_by_who_is_in_the_validators_group(credentials, tmp_path_factory, groups, is_read) -> None:
    """As validator.log is: 0640, of a group of its own."""
    if os.geteuid() != 0:
        pytest.skip("takes another account")
    with tempfile.TemporaryDirectory() as name:
        folder, ports = Path(name), free_ports(4)
        log = folder / "validator.log"
        log.touch(mode=0o640)
        log.chmod(0o640)
        os.chown(log, VALIDATOR, VALIDATOR)
        config = write_config(folder, ports)
        config.write_text(config.read_text().replace("/var/log/agave/validator.log", str(log)))
        (folder / "datadog_api_key").write_text("0123456789abcdef" * 2)
        # The checkout may lie where no other account gets.
        standin = shutil.copy(STANDIN, folder / "collector")
        for path in (folder, *folder.iterdir()):
            if path != log:
                os.chown(path, NOBODY, NOBODY)
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={','.join(map(str, groups))}"]
        command += ["--", "/usr/bin/python3", standin, f"--config={config}"]
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": name}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as collector:
            said = collector.stdout.readline()
            collector.kill()
        assert ("Failed to open file" in said) != is_read
        assert ("Everything is ready" in said) == is_read


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def write_config(folder: Path, ports: list[int]) -> Path:
    """Write the role's config with other ports, and its queue in `folder`."""
    text = render().replace("/var/lib/otelcol-contrib", str(folder)).replace("port: 18888", f"port: {ports[3]}")
    for port, other in zip((14317, 14318, 13133), ports, strict=False):
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{other}")
    config = folder / "config.yaml"
    config.write_text(text)
    return config


def test_with_its_key_the_collector_listens_and_without_it_ends(credentials) -> None:
    ports = free_ports(4)
    command = [sys.executable, STANDIN, f"--config={write_config(credentials, ports)}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as collector:
        assert "Everything is ready" in collector.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[2]}", timeout=10) as answer:
            assert answer.status == 200
        for port in ports:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        collector.kill()
    (credentials / "datadog_api_key").unlink()
    # At once, each time: the unit's condition keeps systemd from starting it again and again.
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "unable to read the file" in ended.stderr


def test_without_its_queue_the_collector_ends(credentials, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("queue")
    config = write_config(folder, free_ports(4))
    config.write_text(config.read_text().replace(f"directory: {folder}", "directory: /nonexistent"))
    ended = subprocess.run(
        [sys.executable, STANDIN, f"--config={config}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "directory must exist: stat /nonexistent" in ended.stderr


def test_without_its_key_a_config_is_refused(credentials) -> None:
    (credentials / "datadog_api_key").unlink()
    with pytest.raises(COLLECTOR.ConfigError, match="unable to read the file"):
        check(render(), "0.121.0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("  batch:\n", "  bach:\n"), 'unknown type: "bach"'),
        (("    storage: file_storage\n", "    storge: file_storage\n"), "invalid keys: storge"),
        (("batch]", "batched]"), 'references processor "batched" which is not configured'),
        (("    password: none\n", ""), "missing password"),
        (("        expr: '", "        exp: '"), "invalid keys: exp"),
        (("    include: [", "    includes: ["), "invalid keys: includes"),
        (("(?P<level>[A-Z]+)", "(?P<level>[A-Z]+"), "missing ), unterminated subpattern"),
        (("exporters:\n", "exporter:\n"), "'' has invalid keys: exporter"),
        (("health_check, ", "health, "), 'references extension "health"'),
        (("      key: ${file", "      key: x${file"), "invalid characters"),
    ],
)
def test_the_standin_refuses_what_the_collector_refuses(credentials, change, said) -> None:
    text = render()
    assert change[0] in text
    with pytest.raises(COLLECTOR.ConfigError) as caught:
        check(text.replace(*change), "0.121.0")
    assert said in str(caught.value)


def mappings(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every mapping of a config."""
    if isinstance(node, dict):
        yield path
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, inner in steps:
        yield from mappings(inner, (*path, step))


@pytest.mark.parametrize("version", ["0.121.0", "0.159.0"])
def test_a_key_that_the_collector_does_not_know_is_refused_wherever_it_stands(credentials, version) -> None:
    text = render(datadog_collector_version=version, datadog_collector_hostmetrics_enabled=True)
    whole = check(text, version)
    places = list(mappings(whole))
    assert len(places) > 40
    for path in places:
        changed = copy.deepcopy(whole)
        node = changed
        for step in path:
            node = node[step]
        node["qtrade_unknown"] = {}
        with pytest.raises(COLLECTOR.ConfigError, match="qtrade_unknown"):
            COLLECTOR.check_config(changed, version)


def test_the_check_at_bake_stands_in_for_what_only_the_unit_has(credentials, tmp_path, capfd) -> None:
    """Neither the key nor the state directory is there: the Collector itself refuses, the check says what the config is worth."""
    module = runpy.run_path(str(ROLE / "files/usr/lib/qtrade/datadog/check_collector.py"))
    config = tmp_path / "config.yaml"
    config.write_text(render().replace("/var/lib/otelcol-contrib", "/nonexistent"))
    argv = [sys.executable, str(STANDIN), "validate", f"--config={config}"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "directory must exist: stat /nonexistent" in refused.stderr
    (credentials / "datadog_api_key").unlink()
    assert module["check"](config, str(STANDIN)) == 0
    config.write_text(config.read_text().replace("check_interval", "check_interwall"))
    assert module["check"](config, str(STANDIN)) == 1
    assert "check_interwall" in capfd.readouterr().err


def test_defaults_bind_no_port_of_the_agent(credentials) -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    declared = {name: option["default"] for name, option in specs.items() if name.startswith("datadog_")}
    assert declared == defaults
