"""The Agent's config as the role renders it, and the stand-in where it behaves like the original."""

import importlib.machinery
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jinja2 import Environment

pytestmark = pytest.mark.unit
PROJECT = Path(__file__).resolve().parents[3]
ROLE = PROJECT / "ansible/roles/datadog"
STANDIN = PROJECT / "tests/standins/datadog-agent/opt/datadog-agent/bin/agent/agent"
BACKEND = ROLE / "files/usr/lib/qtrade/datadog/secret_backend.py"
KEY = "0123456789abcdef" * 2


def load_standin() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("agent_standin", str(STANDIN))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("agent_standin", loader))
    loader.exec_module(module)
    return module


AGENT = load_standin()


def render(**changes: Any) -> str:
    jinja = Environment(trim_blocks=True)
    jinja.filters["to_json"] = lambda value: str(value).lower()
    variables = yaml.safe_load((ROLE / "defaults/main.yml").read_text()) | changes
    return jinja.from_string((ROLE / "templates/etc/datadog-agent/datadog.yaml.j2").read_text()).render(variables)


@pytest.fixture
def backend(tmp_path, monkeypatch) -> Path:
    """The role's secret backend, as strict as it lies in the image, and a credential."""
    program = tmp_path / "backend.py"
    program.write_text(BACKEND.read_text())
    program.chmod(0o500)
    (tmp_path / "datadog_api_key").write_text(KEY + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("DD_API_KEY", raising=False)
    return program


@pytest.mark.parametrize("otlp", [True, False])
@pytest.mark.parametrize("apm", [True, False])
def test_toggles_make_a_config_with_nothing_open_to_the_network(otlp, apm) -> None:
    config = yaml.safe_load(render(datadog_agent_otlp_enabled=otlp, datadog_agent_apm_enabled=apm))
    assert (config["remote_updates"], config["remote_configuration"]) == (False, {"enabled": False})
    assert config["apm_config"]["enabled"] is apm
    assert {config["run_path"], config["logs_config"]["run_path"]} == {"/var/lib/datadog-agent"}
    assert ("otlp_config" in config) is otlp
    if otlp:
        protocols = config["otlp_config"]["receiver"]["protocols"]
        assert [one["endpoint"] for one in protocols.values()] == ["127.0.0.1:4317", "127.0.0.1:4318"]
        assert config["otlp_config"]["traces"] == {"enabled": apm}
    assert "0.0.0.0" not in str(config)
    assert not {"hostname", "site", "tags", "env"} & set(config)


def test_the_key_comes_from_the_credential_by_the_backend(backend) -> None:
    values = {**AGENT.read_config(render()), "secret_backend_command": str(backend)}
    assert values["api_key"] == "ENC[datadog_api_key]"
    AGENT.resolve_key(values)


def test_without_its_key_the_agent_ends(backend) -> None:
    (backend.parent / "datadog_api_key").unlink()
    with pytest.raises(SystemExit, match="secret backend"):
        AGENT.resolve_key({"api_key": "ENC[datadog_api_key]", "secret_backend_command": str(backend)})


@pytest.mark.parametrize("mode", [0o505, 0o555, 0o520])
def test_a_backend_that_others_may_touch_is_refused(backend, mode) -> None:
    backend.chmod(mode)
    with pytest.raises(SystemExit, match="invalid executable"):
        AGENT.resolve_key({"api_key": "ENC[datadog_api_key]", "secret_backend_command": str(backend)})
    assert os.access(backend, os.X_OK)
