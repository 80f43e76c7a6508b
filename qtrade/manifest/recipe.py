"""A recipe: what to bake. Free of environments and hosts."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model, Name, Version
from qtrade.manifest.component import Component

BASE = "base"


class RecipeBase(Model):
    """The Debian root under all layers."""

    suite: Name
    kernel: Name
    packages: tuple[str, ...]


class RecipeLayer(Model):
    """One layer: an Ansible role, what it needs below it and what it is given. A role that runs longer than `timeout_s` is ended."""

    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,40}$")]
    needs: tuple[str, ...] = (BASE,)
    packages: tuple[str, ...] = ()
    vars: dict[str, Any] = Field(default_factory=dict)
    components: tuple[Name, ...] = ()
    toggles: dict[str, bool] = Field(default_factory=dict)
    timeout_s: int = Field(default=1800, gt=0)


class Recipe(Model):
    """A line of images. `epoch` (Unix seconds) stands in for every clock of the bake.

    With `lock: auto` a bake makes and mends the lock itself, in the state directory; else it takes the committed one beside the recipe.
    `pins` are Debian packages that hold a version, or an upstream version of it (17.12), whatever `qtrade lock --update` looks up.
    """

    schema_version: Literal[1]
    name: Name
    epoch: int = Field(gt=0)
    lock: Literal["auto", "committed"] = "committed"
    base: RecipeBase
    cmdline: str = Field(pattern=r"^[^\n]*$")
    size_budget_mib: int = Field(gt=0)
    components: dict[Name, Component] = Field(default_factory=dict)
    pins: dict[Name, Version] = Field(default_factory=dict)
    layers: tuple[RecipeLayer, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_resolve(self) -> "Recipe":
        known = {BASE}
        for layer in self.layers:
            if layer.role in known:
                raise ValueError(f"layer {layer.role} stands twice")
            unknown = [need for need in layer.needs if need not in known]
            if unknown:
                raise ValueError(f"layer {layer.role} needs {unknown[0]}, which no layer before it is")
            missing = [name for name in layer.components if name not in self.components]
            if missing:
                raise ValueError(f"layer {layer.role} uses component {missing[0]}, which the recipe does not have")
            known.add(layer.role)
        return self

    def layer(self, role: str) -> RecipeLayer:
        """Return the layer of `role`, which the recipe has."""
        return next(layer for layer in self.layers if layer.role == role)

    def ancestors(self, role: str) -> tuple[str, ...]:
        """Return the layers that `role` stands on, lowest first, `base` included, itself not."""
        wanted: set[str] = set()
        pending = [role]
        by_role = {layer.role: layer for layer in self.layers}
        while pending:
            current = pending.pop()
            needs = by_role[current].needs if current in by_role else ()
            pending += [need for need in needs if need not in wanted]
            wanted.update(needs)
        if role != BASE:
            wanted.add(BASE)
        return tuple(name for name in (BASE, *by_role) if name in wanted)
