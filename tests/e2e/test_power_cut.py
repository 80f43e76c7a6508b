"""A smoke of tests/torture/test_power_cuts.py: some cuts in each state of one flash of the tiny guest, two of them booted."""

import random
from pathlib import Path

import pytest

from qtrade.settings import Settings
from tests.torture.power_cuts import STATES, record_walks
from tests.torture.proof import Log, prove_cuts
from tests.torture.tiny_guest import tiny_guest
from tests.torture.tiny_image import make_images

pytestmark = pytest.mark.e2e

SEED = 5


def test_a_host_boots_after_a_cut_in_any_state(settings: Settings, image_010: str, tmp_path: Path) -> None:
    assert image_010
    (tmp_path / "images").mkdir()
    (tmp_path / "guest").mkdir()
    images = make_images(settings, tmp_path / "images", "AB")
    with tiny_guest(settings, images, tmp_path / "guest") as guest:
        guest.install("A")
        recording = record_walks(guest, "AB", guest.folder)
        log = Log(tmp_path / "points.jsonl")
        prove_cuts(guest, settings, recording, dict.fromkeys(STATES, 8), random.Random(SEED), log, boot_every=20)
