"""Secrets on hosts: each is a credential of the units that are declared to read it, encrypted at rest, and in no environment."""

import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit

ROLES = Path(__file__).resolve().parents[3] / "ansible/roles"
_LOAD = re.compile(r"^LoadCredential(Encrypted)?=([^:\n]+):?(.*)$", re.MULTILINE)
# It is started and stopped with the Agent (BindsTo=, PartOf=), which is declared.
WITH_ANOTHER = {"datadog-agent-trace.service": "datadog-agent.service"}


def declared() -> dict[str, set[str]]:
    """Return the units that each secret is declared for."""
    found: dict[str, set[str]] = {}
    for path in ROLES.glob("*/config/inputs.yml"):
        for secret in yaml.safe_load(path.read_text())["secrets"]:
            found.setdefault(secret["name"], set()).update(unit["name"] for unit in secret["units"])
    return found


def loads() -> list[tuple[str, str, str, str]]:
    """Return (unit, kind, name, path) of each credential that a unit loads; what Jinja fills in is `*`."""
    found = []
    for path in ROLES.rglob("*"):
        if not path.is_file() or "systemd/system" not in str(path):
            continue
        owner = (
            path.parent.name.removesuffix(".d") if path.parent.name.endswith(".d") else path.name.removesuffix(".j2")
        )
        text = re.sub(r"\{\{.*?\}\}", "*", path.read_text())
        found += [(owner, kind, name, place) for kind, name, place in _LOAD.findall(text)]
    return found


def test_units_load_what_they_are_declared_to_read_and_nothing_else() -> None:
    known, seen = declared(), set()
    assert len(loads()) > 8
    for unit, kind, name, place in loads():
        assert kind == "Encrypted", f"{unit} loads {name} in the clear"
        assert place == f"/run/qtrade/state/credstore/{name}"
        fitting = {one for one in known if re.fullmatch(name.replace("*", ".*"), one)}
        assert fitting, f"{unit} loads {name}, which no role declares"
        for one in fitting:
            if WITH_ANOTHER.get(unit, unit) in known[one]:
                seen.add(one)
        assert fitting & seen, f"{unit} reads {name} and is not declared to"
    assert seen == set(known), "declared, and loaded by no unit"


def test_no_unit_has_a_secret_in_its_environment() -> None:
    for path in ROLES.rglob("*"):
        if path.is_file() and "systemd/system" in str(path):
            for line in path.read_text().splitlines():
                assert not (line.startswith(("Environment=", "EnvironmentFile=")) and "credstore" in line), path
