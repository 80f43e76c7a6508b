"""Layers that wait for the seal are in no store."""

from pathlib import Path

import pytest

from bake.unsealed import Unsealed
from qtrade.store import BlobRecord, LocalStore
from tests.fakes.examples import make_settings, sha

pytestmark = pytest.mark.unit

RECORD = BlobRecord(sha("key"), "app", sha("bytes"), 5, sha("v"))
PATHS = ("f etc/app",)


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path)


@pytest.fixture
def store(settings) -> LocalStore:
    return LocalStore(settings.store)


def keep(unsealed: Unsealed, folder: Path) -> None:
    (folder / "blob").write_text("bytes")
    unsealed.add(folder / "blob", RECORD, PATHS)


def test_a_layer_that_waits_is_a_hit_of_the_next_bake_but_not_in_the_store(settings, store, tmp_path) -> None:
    keep(Unsealed(settings, store), tmp_path)
    after_a_kill = Unsealed(settings, store)
    assert after_a_kill.find_record(RECORD.key) == RECORD
    assert after_a_kill.open_blob(RECORD.digest).read_text() == "bytes"
    assert (store.find_record(RECORD.key), store.has_blob(RECORD.digest)) == (None, False)


def test_a_released_layer_is_in_the_store_while_a_root_may_still_be_mounted_from_here(
    settings, store, tmp_path
) -> None:
    unsealed = Unsealed(settings, store)
    keep(unsealed, tmp_path)
    waiting = unsealed.open_blob(RECORD.digest)
    for _ in range(2):  # as by the next bake, when this one was killed
        unsealed.release(RECORD)
    assert (store.find_record(RECORD.key), store.paths(RECORD)) == (RECORD, PATHS)
    assert waiting.read_text() == "bytes"
    unsealed.clear()
    assert not waiting.exists()
    assert unsealed.open_blob(RECORD.digest).read_text() == "bytes"
    unsealed.release(RECORD)
