"""The inventory for Ansible: what a role needs, how a host is reached, and nothing that is secret."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from flash.ansible_inventory import groups_of, host_variables, recipe_variables, render_inventory
from flash.ssh import known_hosts_path
from qtrade.errors import NotFound
from qtrade.manifest import Recipe, load_manifest
from qtrade.settings import Settings
from tests.fakes.cli import Cli
from tests.fakes.examples import EPOCH, host_fields, make_host, make_settings, recipe_fields
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]
COMPONENTS = {
    "agent": {"kind": "source", "path": "agent", "version": "1"},
    "script": {"kind": "source", "path": "script.py", "version": "1"},
    "built": {
        "kind": "source",
        "git": {"url": "https://git.example.org/x", "tag": "v1"},
        "version": "1",
        "build": {"packages": ["gcc"], "command": "make", "output": "out.tar"},
    },
    "deb": {"kind": "apt", "repository": "file:/x", "key": "k", "package": "deb", "version": "1", "standin": True},
    "file": {"kind": "url", "url": "https://example.org/x-{version}.zip?a=b", "version": "1"},
    "archive": {"kind": "github", "repository": "a/b", "asset": "x_{version}.tar.gz", "version": "2"},
    "asset": {"kind": "github", "repository": "a/b", "asset": "x_{version}.deb", "version": "2"},
}


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    write_project(settings)
    layers = recipe_fields()["layers"]
    layers[0]["components"] = list(COMPONENTS)
    layers[3]["components"] = []
    fields = recipe_fields(components=COMPONENTS, layers=layers)
    (settings.project / "manifests/images/demo.yaml").write_text(yaml.safe_dump(fields))
    (settings.project / "script.py").write_text("pass\n")
    return settings


def test_a_host_is_reached_as_its_operator_by_its_pinned_key_only(settings) -> None:
    host = host_variables(settings, make_host(ssh={"identity_file": "/keys/deploy", "port": 2222, "operator": "watch"}))
    assert (host["ansible_host"], host["ansible_port"], host["ansible_user"]) == ("192.0.2.10", 2222, "watch")
    assert host["ansible_ssh_private_key_file"] == "/keys/deploy"
    assert host["ansible_connection"] == "ssh"
    assert host["ansible_python_interpreter"] == "/usr/bin/python3"
    options = shlex.split(host["ansible_ssh_common_args"])
    assert options[:2] == ["-F", "/dev/null"]
    for wanted in (
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={known_hosts_path(settings, 'rpc-1')}",
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlias=rpc-1",
        "BatchMode=yes",
    ):
        assert wanted in options
    assert host["ansible_remote_tmp"] == "/tmp/.ansible-${USER}"
    assert "ansible_become" not in host


def test_a_host_without_a_key_of_its_own_leaves_it_to_the_agent(settings) -> None:
    assert "ansible_ssh_private_key_file" not in host_variables(settings, make_host(ssh={}))


def test_groups_are_by_environment_role_provider_and_recipe(settings) -> None:
    assert groups_of(make_host(recipe="demo-2.x")) == (
        "environment_development",
        "role_rpc",
        "provider_redfish",
        "recipe_demo_2_x",
    )
    (settings.project / "manifests/hosts/val-1.yaml").write_text(
        yaml.safe_dump(host_fields(name="val-1", role="validator"))
    )
    inventory = render_inventory(settings)
    assert inventory["recipe_demo"] == {"hosts": ["rpc-1", "val-1"]}
    assert inventory["role_validator"] == {"hosts": ["val-1"]}
    assert set(inventory["all"]["children"]) == {*inventory, "ungrouped"} - {"_meta", "all"}
    assert set(inventory["_meta"]["hostvars"]) == {"rpc-1", "val-1"}


def test_a_host_has_the_variables_of_all_layers_and_the_parts_of_each(settings) -> None:
    host = render_inventory(settings)["_meta"]["hostvars"]["rpc-1"]
    assert (host["app_port"], host["app_debug"], host["qtrade_epoch"]) == (1, False, EPOCH)
    assert host["qtrade_layers"]["host"]["packages"] == ["chrony"]
    assert host["qtrade_layers"]["tool"] == {"packages": [], "components": {}}
    assert host["qtrade_layers"]["host"]["components"] == {
        name: f"/run/qtrade/components/{place}"
        for name, place in {
            "agent": "agent",
            "script": "script.py",
            "built": "built",
            "deb": "deb.deb",
            "file": "file.zip",
            "asset": "asset.deb",
            "archive": "archive",
        }.items()
    }
    assert [host[f"qtrade_{name}"] for name in ("environment", "role", "provider", "recipe")] == [
        "development",
        "rpc",
        "redfish",
        "demo",
    ]


def test_no_value_and_no_secret_of_a_host_is_in_it(settings) -> None:
    fields = host_fields(config={"app_token": "config-value"}, secrets={"key": "vault:secrets.yml#key"})
    (settings.project / "manifests/hosts/rpc-1.yaml").write_text(yaml.safe_dump(fields))
    text = json.dumps(render_inventory(settings))
    for word in ("config-value", "vault:", "/keys/bmc", "password", "192.0.2.11"):
        assert word not in text


def test_a_host_whose_recipe_is_not_there_is_an_error(settings) -> None:
    with pytest.raises(NotFound, match="there is no recipe 'other'"):
        host_variables(settings, make_host(recipe="other"))


@pytest.mark.parametrize("name", ["lab", "production"])
def test_one_name_never_means_two_things_in_two_layers(name) -> None:
    """A host has the variables of all its layers."""
    recipe = load_manifest(Recipe, PROJECT / f"manifests/images/{name}.yaml")
    given: dict[str, object] = {}
    for layer in recipe.layers:
        for key, value in {**layer.vars, **layer.toggles}.items():
            assert given.setdefault(key, value) == value, f"{layer.role} has another {key} than a layer before it"
    settings = Settings(PROJECT, PROJECT, PROJECT)
    assert given.items() <= recipe_variables(settings, recipe).items()


def test_the_command_speaks_as_an_inventory_script(settings, monkeypatch, capsys) -> None:
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    cli = Cli(monkeypatch, capsys)
    everything = cli.json("hosts", "inventory")
    code, out, _ = cli("hosts", "inventory", "--list")
    assert (code, json.loads(out)) == (0, everything)
    code, out, _ = cli("hosts", "inventory", "--host", "rpc-1")
    assert (code, json.loads(out)) == (0, everything["_meta"]["hostvars"]["rpc-1"])
    code, _, err = cli("hosts", "inventory", "--list", "--host", "rpc-1")
    assert (code, "do not go together" in err) == (2, True)
    assert cli("hosts", "inventory", "--host", "ghost")[0] == 4
