"""The lab's image, baked a second time elsewhere, from nothing but the cached downloads: the same bytes."""

import shutil

import pytest

from qtrade.settings import Settings
from tests.rigs import bake

pytestmark = pytest.mark.torture


def test_a_second_bake_of_everything_gives_the_same_bytes(settings: Settings, image_010: str) -> None:
    second = settings.state_dir / "second-bake"
    shutil.rmtree(second, ignore_errors=True)
    result = bake("0.1.0", "--verify")
    assert result["id"] == image_010
    made = {path.stem.partition("-")[2] for path in (second / "logs").glob("layer-*.log")}
    assert made >= {"bare_metal", "ufw_solana", "postgres", "datadog", "geyser", "agave", "qtrade_client"}
    shutil.rmtree(second)
