"""Fixtures that more than one file takes, and the order of the files."""

from pathlib import Path

import pytest

from tests.fakes.identity_rig import all_hosts, fleet, operator

__all__ = ["all_hosts", "fleet", "operator"]

# A file is run by one process: what takes minutes begins first, so that nobody waits for it in the end.
_LONGEST_FIRST = (
    "test_bake",
    "test_locked_bake",
    "test_check_mode",
    "test_bake_kills",
    "test_canary_bake",
    "test_roles_again",
    "test_component_build",
    "test_postgres",
    "test_production_recipe",
    "test_killed_controller",
    "test_toggles",
    "test_bake_race",
    "test_firewall",
    "test_canary_secrets",
    "test_role_checks",
    "test_workflows",
    "test_wheel",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; within a file, the order stays. Files of other folders stay before them all."""
    rank = {name: number for number, name in enumerate(_LONGEST_FIRST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)) if item.path.is_relative_to(here) else -1)
