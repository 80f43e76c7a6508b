"""Every role, run a second time on the layer that it has made, changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qtrade.settings import load_settings
from tests.fakes.lab_layers import BakedRecipe, SecondRun, bake_recipe, dump, run_again
from tests.fakes.tiny import make_tiny_project

pytestmark = pytest.mark.integration

ROLES = ("bare_metal", "ufw_solana", "datadog", "geyser", "postgres", "agave", "qtrade_client")


@pytest.fixture(scope="module")
def lab() -> BakedRecipe:
    return bake_recipe(load_settings(), "lab")


@pytest.fixture(scope="module")
def runs(lab: BakedRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SecondRun]:
    """All roles run again, two at a time: they wait for Python most of the time."""
    folder = tmp_path_factory.mktemp("again")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ROLES, pool.map(lambda role: run_again(lab, role, folder), ROLES), strict=True))


def test_all_roles_of_the_recipe_are_looked_at(lab: BakedRecipe) -> None:
    assert sorted(layer.role for layer in lab.recipe.layers) == sorted(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_second_run_changes_nothing(runs: dict[str, SecondRun], role: str) -> None:
    run = runs[role]
    assert run.ok > 0
    assert (run.changed, run.written) == ((), ()), dump(run)


def test_a_role_that_changes_something_again_is_caught(tmp_path: Path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    tiny.add_task("two", "ansible.builtin.shell", cmd="date +%s%N > /usr/share/tiny/now")
    baked = bake_recipe(tiny.settings, "tiny")
    again = tmp_path / "again"
    again.mkdir()
    run = run_again(baked, "two", again)
    assert (run.changed, run.written) == (("two : Added",), ("usr/share/tiny/now",))
    assert run_again(baked, "one", again).changed == ()
