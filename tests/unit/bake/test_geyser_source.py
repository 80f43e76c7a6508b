"""The plugin built from source: what stands in manifests/components takes the place of the fetched one and plans."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bake.components.builder import BuildJob, build_key
from bake.pair import check_pair
from bake.plan import Action, Inputs, plan_bake
from qtrade.errors import Refused
from qtrade.manifest import Recipe
from qtrade.manifest.component import SourceComponent
from tests.fakes.examples import make_settings, sha

pytestmark = pytest.mark.unit

MANIFESTS = Path(__file__).parents[3] / "manifests"


def make(**changes: Any) -> Recipe:
    """Return the production recipe with the plugin built from source; `changes` are of its component."""
    recipe = yaml.safe_load((MANIFESTS / "images/production.yaml").read_text())
    variant = yaml.safe_load((MANIFESTS / "components/geyser-source.yaml").read_text())
    variant["components"]["geyser"].update(changes)
    recipe["components"] = {name: item for name, item in recipe["components"].items() if not name.startswith("geyser")}
    recipe["components"] |= variant["components"]
    recipe["layers"] = [
        {**layer, **variant["layer"]} if layer["role"] == "geyser" else layer for layer in recipe["layers"]
    ]
    return Recipe.model_validate(recipe)


def component_of(recipe: Recipe) -> SourceComponent:
    component = recipe.components["geyser"]
    assert isinstance(component, SourceComponent)
    return component


def test_it_is_the_pair_of_the_validator() -> None:
    pair = check_pair(make())
    assert pair is not None
    assert pair.plugin_rustc == pair.validator_rustc
    with pytest.raises(Refused, match="do not fit"):
        check_pair(make(rustc="1.97.1"))
    with pytest.raises(Refused, match="do not fit"):
        check_pair(make(version="16.0.0+solana.4.3.0"))


def test_it_plans() -> None:
    recipe = make()
    roles = [layer.role for layer in recipe.layers]
    inputs = Inputs(
        code={kind: {} for kind in ("base", "layer", "initrd", "installer")},
        roles={role: {} for role in roles},
        components={name: sha(name) for name in recipe.components},
        versions={"base": {}, "layer": {}},
        packages={"base": {}},
    )
    steps = {step.name: step for step in plan_bake(recipe, inputs, lambda _: None, {})}
    assert steps["geyser"].action is Action.BUILD
    assert set(roles) < set(steps)


def test_the_toolchain_is_one_word() -> None:
    component = component_of(make())
    assert component.build
    for text in (component.build.fetch, component.build.command, *component.build.versions[:2]):
        assert f"+{component.rustc}" in component.expand(text) or f"install {component.rustc}" in component.expand(text)
        assert "{" not in component.expand(text)


def test_another_toolchain_is_another_build(tmp_path) -> None:
    settings = make_settings(tmp_path)
    keys = set()
    for rustc in ("1.96.1", "1.97.1"):
        recipe = make(rustc=rustc)
        keys.add(build_key(settings, BuildJob(recipe, "geyser", component_of(recipe), (), "a1" * 20, ())))
    assert len(keys) == 2
