"""What one role lends to another: the recipe's value, else the owner's default; never a value of the borrower's own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from qtrade.errors import BadInput
from qtrade.manifest import Recipe, lend_arguments

pytestmark = pytest.mark.unit

OWN = {"type": "int", "default": 7000, "description": "port"}
BORROWED = {"type": "int", "required": True, "description": "Borrowed."}


def project(folder: Path, **roles: dict[str, Any]) -> Path:
    for name, options in roles.items():
        meta = folder / "roles" / name / "meta"
        meta.mkdir(parents=True)
        (meta / "argument_specs.yml").write_text(yaml.safe_dump({"argument_specs": {"main": {"options": options}}}))
    (folder / "roles/plain/tasks").mkdir(parents=True)
    return folder


def recipe(**layers: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(
        {
            "schema_version": 1,
            "name": "demo",
            "epoch": 1,
            "cmdline": "",
            "size_budget_mib": 1,
            "base": {"suite": "trixie", "kernel": "linux", "packages": []},
            "layers": [{"role": role, "vars": given} for role, given in layers.items()],
        }
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    return project(tmp_path, server={"server_port": OWN}, reader={"server_port": BORROWED, "reader_name": OWN})


@pytest.mark.parametrize(
    ("layers", "port"),
    [
        ({"server": {}, "reader": {}}, 7000),
        ({"server": {"server_port": 9}, "reader": {"reader_name": 1}}, 9),
        # Whoever borrows may stand below, or the owner be in no layer at all.
        ({"reader": {}, "server": {"server_port": 9}}, 9),
        ({"reader": {}, "plain": {}}, 7000),
    ],
)
def test_a_borrower_has_what_the_owner_has(folder, layers, port) -> None:
    made = lend_arguments(folder, recipe(**layers))
    assert made.layer("reader").vars == {**layers["reader"], "server_port": port}
    if "server" in layers:
        assert made.layer("server").vars == layers["server"]


def test_a_recipe_sets_it_for_the_owner_only(folder) -> None:
    with pytest.raises(BadInput) as caught:
        lend_arguments(folder, recipe(server={}, reader={"server_port": 9}))
    assert "server_port is no variable of layer reader" in str(caught.value)
    assert caught.value.resolution is not None
    assert "set it in the layer server" in caught.value.resolution


@pytest.mark.parametrize("default", [{}, {"default": "{{ other }}"}])
def test_what_has_no_plain_default_has_to_be_set(tmp_path, default) -> None:
    own = {"type": "str", "description": "x", **default}
    made = project(tmp_path, server={"server_port": own}, reader={"server_port": BORROWED})
    with pytest.raises(BadInput, match="server_port has no plain default, and another role borrows it"):
        lend_arguments(made, recipe(server={}, reader={}))
    lent = lend_arguments(made, recipe(server={"server_port": "x"}, reader={}))
    assert lent.layer("reader").vars == {"server_port": "x"}
