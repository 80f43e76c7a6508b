"""The record of a rollout in the store is fenced, and orders find their rollout."""

from dataclasses import replace
from pathlib import Path

import pytest

from qtrade.errors import TrustError
from qtrade.store import LocalStore
from qtrade.store.blocks import Blocks
from qtrade.store.rollouts import RolloutRecord, Rollouts, Superseded
from tests.fakes.examples import sha

pytestmark = pytest.mark.unit

RECORD = RolloutRecord("r1", "staging", "demo", "0.2.0", sha("2"), "ROLLING", "op@here", 7, 1.0)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_a_controller_with_a_smaller_token_is_refused(store: LocalStore) -> None:
    rollouts = Rollouts(store.objects)
    assert rollouts.read("staging") is None
    rollouts.publish(RECORD)
    rollouts.publish(replace(RECORD, phase="SOAKING"))
    rollouts.publish(replace(RECORD, holder="op@there", token=8, phase="PAUSED"))
    with pytest.raises(Superseded, match=r"taken over by op@there \(token 8\)"):
        rollouts.publish(RECORD)
    found = rollouts.read("staging")
    assert found is not None
    assert (found.phase, found.token) == ("PAUSED", 8)


def test_an_order_is_for_one_rollout(store: LocalStore) -> None:
    rollouts = Rollouts(store.objects)
    rollouts.order("staging", "r1", "pause", "op@here")
    found = rollouts.ordered("staging", "r1")
    assert found is not None
    assert (found.kind, found.by) == ("pause", "op@here")
    assert rollouts.ordered("staging", "r2") is None
    assert rollouts.ordered("production", "r1") is None
    rollouts.forget_order("staging")
    assert rollouts.ordered("staging", "r1") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema_version": 1, "id": "r1"}'])
def test_a_damaged_record_or_block_is_named(store: LocalStore, content: bytes) -> None:
    store.objects.put("rollouts/staging.json", content)
    with pytest.raises(TrustError, match="damaged in the store"):
        Rollouts(store.objects).read("staging")
    store.objects.put(f"blocked/{sha('2')}.json", content)
    with pytest.raises(TrustError, match="is damaged in the store"):
        Blocks(store.objects).find(sha("2"))
