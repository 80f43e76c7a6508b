"""Hold a part of a recipe at a version, and switch a role's toggle: `qtrade lock --pin agave=4.2.1 --set agave_profile=rpc`.

What is pinned stands in the recipe, so that no later `qtrade lock --update` takes it back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debian.debian_support import NativeVersion

from bake.lock.edit import edit_recipe, same_quotes, set_version
from bake.roles import Argument, read_role
from qtrade.errors import BadInput, NotFound, UsageError
from qtrade.manifest import Recipe
from qtrade.manifest.component import AptComponent, GithubComponent
from qtrade.settings import Settings

RUST = "rust"
_WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


@dataclass(frozen=True)
class Pins:
    """What is asked for: versions by component, package or `rust`; values by variable of a role."""

    versions: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return not self.versions and not self.values


def parse_pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """Return `NAME=VALUE[,NAME=VALUE]...` as a mapping; empty texts say nothing. Raises `BadInput`."""
    found: dict[str, str] = {}
    for text in (part for whole in texts for part in whole.split(",") if part):
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadInput(f"{option} {text!r:.120} is not NAME=VALUE", resolution=f"write {option} agave=4.2.1")
        if found.setdefault(name, value) != value:
            raise BadInput(f"{option} names {name} twice", resolution="name it once")
    return found


def pin(
    settings: Settings, path: Path, recipe: Recipe, pins: Pins, *, dry_run: bool = False
) -> tuple[Recipe, tuple[str, ...]]:
    """Write the pins into the recipe file; return the new recipe and the packages that have to be looked up again.

    `rust` is the toolchain of those pinned components that name one. A component of the same release (Yellowstone's config-check) and a
    layer's variable that says the version (`agave_version`) follow. Raises `NotFound`, `BadInput`, `UsageError`.
    """
    components = {name: text for name, text in pins.versions.items() if name in recipe.components}
    packages = {name: text for name, text in pins.versions.items() if name not in recipe.components and name != RUST}
    _check_packages(recipe, packages)
    values = {name: _parse_value(settings, recipe, name, text) for name, text in pins.values.items()}
    rust = pins.versions.get(RUST)
    if rust and not any(recipe.components[name].rustc for name in components):
        raise UsageError(
            "rust is the toolchain of a component", resolution="pin that too: --pin geyser=VERSION --pin rust=VERSION"
        )

    def change(document: Any) -> None:
        for name, text in components.items():
            _pin_component(document, path, recipe, name, _whole_version(recipe, name, text))
            if rust and recipe.components[name].rustc:
                fields = document["components"][name]
                fields["rustc"] = same_quotes(fields["rustc"], rust)
        for name, text in packages.items():
            _pin_package(document, recipe, name, text)
        for name, value in values.items():
            layer = _layer_of(document, _role_of(recipe, name))
            layer.setdefault("toggles" if isinstance(value, bool) else "vars", {})[name] = value

    changed = edit_recipe(path, change, dry_run=dry_run)
    return changed, tuple(name for name, text in packages.items() if recipe.pins.get(name) != text)


def _check_packages(recipe: Recipe, packages: Mapping[str, str]) -> None:
    known = (recipe.base.kernel, *recipe.base.packages, *(name for layer in recipe.layers for name in layer.packages))
    unknown = [name for name in packages if name not in known]
    if unknown:
        raise NotFound(
            f"{unknown[0]}: neither a component nor a package that recipe {recipe.name} names",
            details=f"components: {', '.join(recipe.components) or 'none'}\npackages: {', '.join(known)}",
            resolution="pin one of these",
        )


def _whole_version(recipe: Recipe, name: str, text: str) -> str:
    """Return the version as the recipe writes it: a .deb's keeps epoch and revision where only the upstream version was given."""
    old = recipe.components[name]
    if not isinstance(old, AptComponent) or ":" in text or "-" in text:
        return text
    before = NativeVersion(old.version)
    epoch = f"{before.epoch}:" if before.epoch else ""
    return f"{epoch}{text}{f'-{before.debian_revision}' if before.debian_revision else ''}"


def _pin_component(document: Any, path: Path, recipe: Recipe, name: str, version: str) -> None:
    old = recipe.components[name]
    same_release = [
        other
        for other, item in recipe.components.items()
        if other.startswith(f"{name}-") and item.version == old.version
        and (not isinstance(item, GithubComponent) or not isinstance(old, GithubComponent) or item.repository == old.repository)
    ]  # fmt: skip
    for one in (name, *same_release):
        set_version(document, path, one, version)
    told = {old.version: version, _upstream(old.version): _upstream(version)}
    for layer in document["layers"]:
        if name in (layer.get("components") or ()):
            fields = layer.get("vars") or {}
            for key, value in fields.items():
                if key.endswith("_version") and value in told and _means(key, layer["role"], name):
                    fields[key] = same_quotes(value, told[value])


def _means(variable: str, role: str, component: str) -> bool:
    """Say whether a role's variable is the component's version: `agave_version`, `datadog_agent_version`, `datadog_collector_version`."""
    plain = component.replace("-", "_")
    return variable in (f"{role}_version", f"{plain}_version") or (
        plain.startswith("otelcol") and variable == f"{role}_collector_version"
    )


def _pin_package(document: Any, recipe: Recipe, name: str, version: str) -> None:
    document.setdefault("pins", {})[name] = version
    for layer in document["layers"]:
        variable = f"{layer['role']}_version"
        if name in (layer.get("packages") or ()) and recipe.layer(layer["role"]).vars.get(variable):
            layer["vars"][variable] = same_quotes(layer["vars"][variable], version)


def _role_of(recipe: Recipe, variable: str) -> str:
    for layer in sorted(recipe.layers, key=lambda one: -len(one.role)):
        if variable.startswith(f"{layer.role}_"):
            return layer.role
    raise NotFound(
        f"{variable} belongs to no role of recipe {recipe.name}",
        resolution=f"roles are {', '.join(layer.role for layer in recipe.layers)}; a variable begins with its role's name",
    )


def _parse_value(settings: Settings, recipe: Recipe, name: str, text: str) -> bool | str | int:
    """Return the value as the role's argument has it: a toggle (bool), one of its choices, or a number. Raises `BadInput`, `NotFound`."""
    role = _role_of(recipe, name)
    arguments = read_role(settings, role).entry.options
    argument = arguments.get(name)
    if argument is None:
        raise NotFound(f"role {role} has no variable {name}", resolution=f"it has {', '.join(arguments)}")
    if argument.type == "bool" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if argument.type == "int" and text.isdecimal():
        return int(text)
    if argument.type == "str" and text in argument.choices:
        return text
    raise BadInput(f"{name} cannot be {text!r:.120}", resolution=f"it is {_allowed(argument)}")


def _allowed(argument: Argument) -> str:
    if argument.type == "bool":
        return "true or false"
    if argument.choices:
        return f"one of {', '.join(map(str, argument.choices))}"
    return "a number" if argument.type == "int" else "no toggle: change it in the recipe"


def _layer_of(document: Any, role: str) -> Any:
    return next(layer for layer in document["layers"] if layer["role"] == role)


def _upstream(version: str) -> str:
    """Return a Debian version without its epoch and revision. Others, such as 15.1.2+solana.4.2.0, stay what they are."""
    return NativeVersion(version).upstream_version or version if ":" in version else version
