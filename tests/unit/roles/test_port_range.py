"""Ports and addresses stand in one place: with the role that listens there; whoever needs one borrows it."""

import re
from pathlib import Path

import pytest
import yaml

from bake.run import load_recipe
from flash.config import render_bundle
from qtrade.manifest import RoleInputs
from qtrade.settings import Settings
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).parents[3]
SETTINGS = Settings(PROJECT, PROJECT / ".state", PROJECT / ".state/store")
ROLES = PROJECT / "ansible/roles"
# Who may name the default port of an interface, besides the README that is made of it.
OWNERS = {8899: "agave", 8900: None, 10000: "geyser", 8999: "geyser", 5432: "postgres", 9600: "qtrade_client"}
FOLDERS = ("defaults", "vars", "tasks", "templates", "files", "config", "meta", "specs", "filter_plugins")


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (PROJECT / "manifests/images").glob("*.yaml")))
def test_firewall_and_validator_have_the_same_range(recipe: str) -> None:
    layers = {layer.role: layer.vars for layer in load_recipe(SETTINGS, recipe).layers}
    opened = layers["ufw_solana"]["agave_port_range"]
    assert opened == layers["agave"]["agave_port_range"]
    first, last = map(int, opened.split("-"))
    assert last - first >= 26


@pytest.mark.parametrize("port", OWNERS)
def test_no_role_but_its_own_names_a_default_port(port: int) -> None:
    found = {
        path.relative_to(ROLES).parts[0]
        for folder in FOLDERS
        for path in ROLES.glob(f"*/{folder}/**/*")
        if path.is_file() and path.suffix != ".pyc" and re.search(rf"(?<![\d.]){port}(?!\d)", path.read_text())
    }
    numbers = {"agave", "bare_metal", "postgres"} if port == 10000 else set()  # basis points
    assert found - numbers == ({OWNERS[port]} if OWNERS[port] else set()) - numbers


def render(role: str, **config: object) -> dict[str, str]:
    """Return the files of a role's config as `push` renders them, with the validator's values."""
    inputs = {}
    for name in {role, "agave"}:
        document = yaml.safe_load((ROLES / name / "config/inputs.yml").read_text())
        for file in document["files"]:
            file["template"] = (ROLES / name / "config/templates" / f"{file['path']}.j2").read_text()
        inputs[name] = RoleInputs.model_validate(document)
    bundle = render_bundle(make_host(config=config), make_environment(), make_image(inputs=inputs))
    return {file.path: file.content for file in bundle.files}


def test_the_allow_list_names_interfaces_and_no_port() -> None:
    networks = {f"ufw_solana_{name}_sources": ["192.0.2.0/24"] for name in ("rpc", "grpc", "ssh")}
    lines = render("ufw_solana", **networks)["ufw/allow.rules"].splitlines()
    assert lines == [f"in {name} 192.0.2.0/24" for name in ("ssh", "json-rpc", "websocket", "grpc")]


@pytest.mark.parametrize(
    ("bind", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")],
)
def test_the_validators_health_is_asked_where_the_host_binds_it(bind: str, asked: str) -> None:
    lines = render("datadog", agave_rpc_bind=bind)["datadog/agent.env"].splitlines()
    assert lines[-1] == f"QTRADE_VALIDATOR_HOST={asked}"
