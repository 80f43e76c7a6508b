"""The production recipe is real, and its whole difference to the lab's is data."""

import re
from pathlib import Path
from typing import Any

import pytest

from bake.run import load_recipe
from qtrade.manifest import Recipe
from qtrade.manifest.component import AptComponent
from qtrade.settings import Settings

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]
SETTINGS = Settings(PROJECT, PROJECT / ".state", PROJECT / ".state/store")
# What may differ, and why: which image it is, where its lock lies, how large it may be, where its parts come from.
MAY_DIFFER = {"name", "lock", "size_budget_mib", "components"}
# Words by which a role could tell one recipe from the other.
TELLS = re.compile(r"(?i)\bstand-?ins?\b|\bqtrade_recipe\b|\brecipe_name\b|==\s*['\"](lab|production)['\"]")


@pytest.fixture
def lab() -> Recipe:
    return load_recipe(SETTINGS, "lab")


@pytest.fixture
def production() -> Recipe:
    return load_recipe(SETTINGS, "production")


def rest_of(recipe: Recipe, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what has to be equal; `without` names variables that are left out. The lab's machine has no hardware that wants firmware."""
    rest = {name: value for name, value in recipe.model_dump(mode="json").items() if name not in MAY_DIFFER}
    for layer in rest["layers"]:
        layer["packages"] = [name for name in layer["packages"] if not name.startswith("firmware-")]
        layer["vars"] = {name: value for name, value in layer["vars"].items() if name not in without}
    return rest


def variables_of(recipe: Recipe) -> set[str]:
    return {name for layer in recipe.layers for name in layer.vars}


def test_all_but_the_sources_of_its_parts_is_the_labs(lab, production) -> None:
    # Which minor version a Debian package has, is for a committed lock to hold: the lab takes what the archive has today.
    pinned = {name for name in variables_of(production) - variables_of(lab) if name.endswith("_version")}
    assert rest_of(production, frozenset(pinned)) == rest_of(lab)
    assert set(Recipe.model_fields) - MAY_DIFFER >= {"base", "cmdline", "layers", "epoch"}


def test_it_brings_the_firmware_that_an_e810_needs(lab, production) -> None:
    """tests/integration/test_toggles.py bakes it."""
    assert "firmware-intel-misc" in production.layer("bare_metal").packages
    assert not [name for layer in lab.layers for name in layer.packages if name.startswith("firmware-")]


def test_its_parts_have_the_labs_names_and_versions(lab, production) -> None:
    of_lab = {name: item.version for name, item in lab.components.items()}
    assert {name: item.version for name, item in production.components.items()} == of_lab


def test_the_lab_stands_in_for_parts_and_production_for_none(lab, production) -> None:
    assert [name for name, item in production.components.items() if item.standin] == []
    assert {name for name, item in lab.components.items() if item.standin} == set(lab.components) - {"qtrade-agent"}
    assert production.lock == "committed"


def test_its_parts_come_from_upstream_over_tls_and_its_apt_keys_are_pinned(production) -> None:
    for name, item in production.components.items():
        text = item.model_dump_json()
        assert "tests/" not in text, name
        assert "{state}" not in text, name
        assert re.findall(r'"(?:http|file|git):[^"]*"', text) == [], name
        assert not isinstance(item, AptComponent) or item.fingerprints, name


def test_no_role_asks_which_recipe_it_is_baked_for() -> None:
    found = {}
    for path in sorted((PROJECT / "ansible").rglob("*")):
        is_read = path.is_file() and path.suffix != ".pyc" and "specs" not in path.parts and path.name != "README.md"
        if is_read and path.name != "inventory":
            lines = [line for line in path.read_text(errors="replace").splitlines() if asks(line)]
            if lines:
                found[str(path.relative_to(PROJECT))] = lines
    assert found == {}


def asks(line: str) -> bool:
    return TELLS.search(line) is not None and not line.lstrip().startswith("#")


@pytest.mark.parametrize("line", ["when: qtrade_recipe == 'lab'", "{% if standin %}", 'x == "production"'])
def test_the_search_would_find_such_a_question(line) -> None:
    assert asks(line)
