"""What the role qtrade_client refuses to bake."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qtrade.errors import ToolError
from qtrade.settings import load_settings
from tests.fakes.lab_layers import BakedRecipe, bake_recipe, run_again

pytestmark = pytest.mark.integration

ROLE = "qtrade_client"


@pytest.fixture(scope="module")
def lab() -> BakedRecipe:
    return bake_recipe(load_settings(), "lab")


def with_vars(lab: BakedRecipe, values: dict[str, Any]) -> BakedRecipe:
    layers = tuple(
        layer.model_copy(update={"vars": {**layer.vars, **values}}) if layer.role == ROLE else layer
        for layer in lab.recipe.layers
    )
    return replace(lab, recipe=lab.recipe.model_copy(update={"layers": layers}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"qtrade_client_health_address": "0.0.0.0:9600"}, "The health address must be on loopback"),
        ({"qtrade_client_wait_s": 30}, "the wait longer than 60 s"),
        ({"qtrade_client_watchdog_s": 5}, "off (0) or at least 30 s"),
        ({"qtrade_client_memory_high": "5G"}, "memory_high not above memory_max"),
        ({"qtrade_client_memory_high": "much"}, "can't interpret"),
        ({"qtrade_client_stop_s": "soon"}, "qtrade_client_stop_s"),
    ],
)
def test_arguments_that_cannot_be_meant_end_the_bake(lab, tmp_path: Path, values, words) -> None:
    with pytest.raises(ToolError) as caught:
        run_again(with_vars(lab, values), ROLE, tmp_path)
    assert words in " ".join(caught.value.details.split())


def test_other_arguments_change_the_unit_and_what_is_said_of_them(lab, tmp_path: Path) -> None:
    run = run_again(with_vars(lab, {"qtrade_client_watchdog_s": 0}), ROLE, tmp_path)
    said = "usr/share/qtrade/arguments.d/qtrade_client.json"
    assert run.written == ("usr/lib/systemd/system/qtrade-client.service", said)
