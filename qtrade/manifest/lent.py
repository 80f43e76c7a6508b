"""Arguments that one role lends to others: a port belongs to the role that listens there, and whoever needs it is given that one.

A role borrows by declaring an argument whose name begins with another role's name (`agave_rpc_port` in the role `datadog`). Its layer is
then given what the recipe gives the owner's layer, else the owner's default.
"""

from pathlib import Path
from typing import Any

import yaml

from qtrade.errors import BadInput
from qtrade.manifest.load import LOADER
from qtrade.manifest.recipe import Recipe, RecipeLayer

_SPECS = "meta/argument_specs.yml"
# What each role declares of each of its arguments.
Declared = dict[str, dict[str, Any]]


def lend_arguments(ansible: Path, recipe: Recipe) -> Recipe:
    """Return the recipe with what each layer borrows among its variables. Raises `BadInput` where a recipe sets it for the borrower."""
    folder = ansible / "roles"
    roles = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    declared = {role: _read_options(folder / role / _SPECS) for role in roles}
    return recipe.model_copy(
        update={"layers": tuple(_lend(folder, declared, recipe, layer) for layer in recipe.layers)}
    )


def owner_of(argument: str, role: str, roles: tuple[str, ...]) -> str | None:
    """Return the role that an argument of `role` is borrowed from, None where it is its own or the bake's."""
    return next((name for name in roles if name != role and argument.startswith(f"{name}_")), None)


def _lend(folder: Path, declared: Declared, recipe: Recipe, layer: RecipeLayer) -> RecipeLayer:
    lent = {}
    for argument in declared.get(layer.role, {}):
        owner = owner_of(argument, layer.role, tuple(declared))
        if owner is None:
            continue
        if argument in layer.vars or argument in layer.toggles:
            raise BadInput(
                f"recipe {recipe.name}: {argument} is no variable of layer {layer.role}, which borrows it",
                resolution=f"set it in the layer {owner}; {layer.role} then has the same",
            )
        lent[argument] = _value(folder, declared, recipe, owner, argument)
    return layer.model_copy(update={"vars": {**layer.vars, **lent}})


def _value(folder: Path, declared: Declared, recipe: Recipe, owner: str, argument: str) -> Any:
    given = next(({**one.vars, **one.toggles} for one in recipe.layers if one.role == owner), {})
    if argument in given:
        return given[argument]
    option = declared[owner].get(argument, {})
    if "default" not in option or "{{" in str(option["default"]):
        raise BadInput(
            f"{folder / owner / _SPECS}: {argument} has no plain default, and another role borrows it",
            resolution=f"give it one, or set it in the recipe's layer {owner}",
        )
    return option["default"]


def _read_options(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    document = yaml.load(path.read_text(), Loader=LOADER)  # noqa: S506 - a safe loader
    return dict(document["argument_specs"]["main"].get("options", {}))
