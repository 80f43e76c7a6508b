"""The data path that `make bench-flash` measures: what it fetches is what the store has, by the agent and by the plain writer."""

import json
import random

import pytest

from flash.agent.imagelist import Blob
from flash.agent.verity import hash_file
from flash.netboot.delivery import Delivery, blobs_in
from flash.netboot.server import FlashServer
from tests.bench import flash_fetch
from tests.bench.flash_cases import make_plan

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("way", ["fetch", "plain"])
def test_it_fetches_what_the_store_has(tmp_path, way) -> None:
    store, target = tmp_path / "store", tmp_path / "target"
    store.mkdir()
    target.mkdir()
    blobs = []
    for number in range(2):
        path = store / str(number)
        path.write_bytes(random.Random(number).randbytes((5 << 20) + number))
        blobs.append(Blob(hash_file(path), path.stat().st_size, "", f"blob {number}"))
        path.rename(store / blobs[-1].sha256)
    plan = json.loads(json.dumps(make_plan(store, blobs)))
    with FlashServer("127.0.0.1", 0) as server, server.serving(Delivery(blobs_in(store), lambda _: None)) as served:
        getattr(flash_fetch, way)(served.url, target, plan)
    found = {hash_file(path) for path in target.rglob("*") if path.is_file()}
    assert found == {blob.sha256 for blob in blobs}
