"""The role postgres with the real server of its own baked layer: cluster, schema and backups, in a chroot of the layers.

The cases are in `postgres/`; pytest runs them again inside the chamber that stacks the layers.
"""

from pathlib import Path

import pytest

from qtrade.settings import Settings, load_settings
from tests.fakes.lab_layers import bake_recipe
from tests.fakes.other_postgres import locate
from tests.fakes.role_layers import run_case

pytestmark = pytest.mark.integration

CASES = Path(__file__).with_name("postgres")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def layers(settings: Settings) -> tuple[Path, ...]:
    return bake_recipe(settings, "lab", until="postgres").blobs("postgres")


@pytest.mark.parametrize("case", ["cluster", "schema", "plans", "backup", "repositories"])
def test_in_the_layers(case: str, layers: tuple[Path, ...], settings: Settings) -> None:
    run_case(settings, layers, CASES / f"case_{case}.py")


def test_another_major_version_in_the_layers(layers: tuple[Path, ...], settings: Settings) -> None:
    run_case(settings, layers, CASES / "case_major.py", env={"QTRADE_TEST_OTHER_POSTGRES": str(locate(settings))})
