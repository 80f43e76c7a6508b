"""Versions in order."""

import random

import pytest

from qtrade.store.order import version_order

pytestmark = pytest.mark.unit

# Each list from the lowest to the highest.
ORDERED = [
    ["0.9.0", "0.9.10", "0.10.0", "1.0", "a"],
    ["0.1.0~rc1", "0.1.0-rc1", "0.1.0-rc2", "0.1.0-rc10", "0.1.0", "0.1.1-rc1", "0.1.1"],
    ["1.0~~", "1.0~", "1.0~beta", "1.0-1", "1.0-alpha", "1.0", "1.0+b1", "1.0.1"],
    ["2-rc1.1", "2-rc1.2", "2"],
]


@pytest.mark.parametrize("ordered", ORDERED)
def test_pre_releases_come_before_their_release(ordered) -> None:
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert shuffled != ordered
    assert sorted(shuffled, key=version_order) == ordered
