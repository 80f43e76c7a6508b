"""Environments: the committed ones, and what contradicts itself."""

from pathlib import Path

import pytest

from qtrade.errors import BadInput
from qtrade.manifest import Environment, load_manifest, load_text

pytestmark = pytest.mark.unit
COMMITTED = Path(__file__).resolve().parents[4] / "manifests/environments"


def load(text: str) -> Environment:
    return load_text(Environment, "schema_version: 1\nname: production\n" + text, source="production.yaml")


@pytest.mark.parametrize(
    ("name", "monitors"), [("development", "base"), ("staging", "base"), ("production", "enhanced")]
)
def test_the_committed_ones(name, monitors) -> None:
    environment = load_manifest(Environment, COMMITTED / f"{name}.yaml")
    assert environment.monitor_set == monitors
    # What hosts send has this tag, and monitors look for it.
    assert environment.config.get("datadog_environment", "development") == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("monitor_set: all\n", "monitor_set: must be none, base or enhanced"),
        ("monitoring: {api_key: 0123456789abcdef0123456789abcdef}\n", "monitoring.api_key"),
        ("monitoring: {sites: datadoghq.eu}\n", "monitoring.sites"),
        ("config: {datadog_environment: staging}\n", "the monitors of production watch production"),
        ("config: {datadog_site: datadoghq.eu}\n", "config.datadog_site is datadoghq.eu"),
        ("roles: {rpc: {datadog_site: datadoghq.eu}}\n", "roles.rpc.datadog_site is datadoghq.eu"),
        ("roles: {rcp: {}}\n", "roles.rcp"),
    ],
)
def test_what_is_refused(text, said) -> None:
    with pytest.raises(BadInput) as caught:
        load(text)
    assert said in caught.value.details


def test_another_site_is_said_twice_alike() -> None:
    environment = load("monitoring: {site: datadoghq.eu}\nconfig: {datadog_site: datadoghq.eu}\n")
    assert environment.monitoring.site == "datadoghq.eu"
