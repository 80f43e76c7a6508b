"""The firewall opens the range that the validator binds, in every recipe."""

from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).parents[3]


def find_value(recipe: Path, role: str, name: str) -> str:
    """Return what a recipe gives a role for a variable, or the role's default."""
    layers = {layer["role"]: layer for layer in yaml.safe_load(recipe.read_text())["layers"]}
    defaults = yaml.safe_load((PROJECT / "ansible/roles" / role / "defaults/main.yml").read_text())
    return str({**defaults, **layers[role].get("vars", {})}[name])


@pytest.mark.parametrize("recipe", sorted((PROJECT / "manifests/images").glob("*.yaml")), ids=lambda path: path.stem)
def test_firewall_and_validator_have_the_same_range(recipe: Path) -> None:
    opened = find_value(recipe, "ufw_solana", "ufw_solana_port_range")
    assert opened.replace(":", "-") == find_value(recipe, "agave", "agave_port_range")
    first, last = map(int, opened.split(":"))
    assert last - first >= 26
