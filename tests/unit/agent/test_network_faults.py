"""The agent's downloads from the controller's real server through a proxy that breaks them."""

import base64
import hashlib
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from flash.agent.chunks import NONE, parse_chunks
from flash.agent.errors import AgentError
from flash.agent.fetch import Fetcher
from flash.agent.imagelist import Blob
from flash.chunks import list_chunks
from flash.netboot.delivery import Delivery, blobs_in
from flash.netboot.server import FlashServer
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind

pytestmark = pytest.mark.unit

CHUNK = 256 * 1024
DATA = random.Random(5).randbytes(4 * 1024 * 1024 + 12_345)
OLD = DATA[:1_000_000] + random.Random(6).randbytes(len(DATA) - 1_000_000)
TOTAL = len(DATA)


@dataclass
class Way:
    """From the agent through the proxy to the server, and what came of it."""

    proxy: FaultyProxy
    fetcher: Fetcher
    blob: Blob
    system: Path

    def arrives(self) -> bool:
        self.fetcher.fetch_all([self.blob])
        return (self.system / self.blob.path).read_bytes() == DATA

    @property
    def surplus(self) -> int:
        """How many bytes the agent read more than once."""
        return self.fetcher.fetched.bytes_fetched - TOTAL

    def refusal(self) -> AgentError:
        with pytest.raises(AgentError) as caught:
            self.fetcher.fetch_all([self.blob])
        assert not (self.system / self.blob.path).exists()
        return caught.value


@pytest.fixture
def make_way(tmp_path):
    """Return a maker of ways with faults; all are taken down in the end."""
    store = tmp_path / "store"
    store.mkdir()
    for data in (DATA, OLD):
        (store / hashlib.sha256(data).hexdigest()).write_bytes(data)
    blob = Blob(hashlib.sha256(DATA).hexdigest(), TOTAL, "", "base")
    opened = []

    def make(*faults, listed=True, tries=6, source=None):
        server = FlashServer("127.0.0.1", 0)
        opened.append(server)
        served = server.__enter__().deliveries.open(Delivery(blobs_in(store), lambda _: None))
        proxy = FaultyProxy(server.port, *faults)
        opened.append(proxy)
        proxy.__enter__()
        sums = base64.b64encode(list_chunks(store / blob.sha256, CHUNK)).decode()
        chunks = parse_chunks({"size_bytes": CHUNK, "sha256": {blob.sha256: sums}}) if listed else NONE
        url = f"{source or proxy.url}/{served.token}"
        for fault in faults:
            fault.to = fault.to.replace("SOURCE", url)
        fetcher = Fetcher(url, tmp_path / "system", chunks=chunks, sleep=lambda _: None, tries=tries, stall_s=0.4)
        return Way(proxy, fetcher, blob, tmp_path / "system")

    yield make
    for one in reversed(opened):
        one.__exit__(None, None, None)


@pytest.mark.parametrize("at", [0, 1, CHUNK - 1, CHUNK, 1_000_000, TOTAL - 1])
def test_a_flipped_byte_costs_one_chunk(make_way, at):
    way = make_way(Fault(Kind.FLIP, at))
    assert way.arrives()
    assert way.proxy.fired == {Kind.FLIP: 1}
    assert 0 < way.surplus <= CHUNK
    assert way.proxy.sent_bytes == TOTAL + way.surplus


def test_without_a_chunk_list_a_flipped_byte_costs_the_blob(make_way):
    """As a controller from before the lists sends it."""
    way = make_way(Fault(Kind.FLIP, 1_000_000), listed=False)
    assert way.arrives()
    assert way.proxy.fired == {Kind.FLIP: 1}
    assert way.surplus == TOTAL


def test_flips_in_many_chunks_cost_these_chunks(make_way):
    way = make_way(Fault(Kind.FLIP, 5), Fault(Kind.FLIP, 7), Fault(Kind.FLIP, 9))
    assert way.arrives()
    assert way.proxy.fired == {Kind.FLIP: 3}
    assert way.surplus == 3 * CHUNK


@pytest.mark.parametrize("at", [0, 1, 100_000, CHUNK, TOTAL - 1])
def test_a_truncated_answer_costs_nothing(make_way, at):
    way = make_way(Fault(Kind.TRUNCATE, at))
    assert way.arrives()
    assert way.proxy.fired == {Kind.TRUNCATE: 1}
    assert way.surplus == 0
    assert way.proxy.sent_bytes == TOTAL


def test_a_connection_that_is_reset_every_100_kb_gets_there(make_way):
    way = make_way(Fault(Kind.RESET, 100_000, times=1000))
    assert way.arrives()
    resets = way.proxy.fired[Kind.RESET]
    assert resets >= TOTAL // 100_000
    assert way.surplus == 0
    # A reset takes away what was sent and not yet read.
    assert way.proxy.sent_bytes - TOTAL <= resets * 100_000


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.DRIBBLE])
def test_a_stall_is_noticed_at_once_and_costs_nothing(make_way, kind):
    way = make_way(Fault(kind, 1_234_567))
    start = time.monotonic()
    assert way.arrives()
    assert time.monotonic() - start < 5
    assert way.proxy.fired == {kind: 1}
    assert way.surplus <= CHUNK


def test_busy_servers_are_asked_again_when_they_say(make_way):
    way = make_way(Fault(Kind.BUSY, 7, times=3))
    slept = []
    way.fetcher._sleep = slept.append
    assert way.arrives()
    assert way.proxy.fired == {Kind.BUSY: 3}
    assert slept == [7, 7, 7]
    assert way.surplus == 0


def test_busy_servers_are_given_up_in_the_end(make_way):
    way = make_way(Fault(Kind.BUSY, 1, times=99))
    assert "503" in way.refusal().message
    assert way.proxy.fired == {Kind.BUSY: 6}


@pytest.mark.parametrize("surplus", [1, -1, 100_000, -100_000])
def test_a_wrong_length_is_healed(make_way, surplus):
    way = make_way(Fault(Kind.LENGTH, surplus))
    assert way.arrives()
    assert way.proxy.fired == {Kind.LENGTH: 1}
    assert way.surplus <= CHUNK


def test_a_wrong_length_that_stays_is_refused(make_way):
    way = make_way(Fault(Kind.LENGTH, 1, times=99))
    assert way.refusal().code == "blob-size"
    assert way.proxy.fired == {Kind.LENGTH: 6}
    assert way.fetcher.fetched.bytes_fetched == 0


def old_version(times=1):
    return Fault(Kind.REDIRECT, to=f"SOURCE/blobs/{way_old()}", times=times, path=way_blob())


def way_old():
    return hashlib.sha256(OLD).hexdigest()


def way_blob():
    return hashlib.sha256(DATA).hexdigest()


def test_a_redirect_to_an_older_version_is_not_read(make_way):
    way = make_way(old_version())
    assert way.arrives()
    assert way.proxy.fired == {Kind.REDIRECT: 1}
    assert way.surplus == 0


def test_a_redirect_to_an_older_version_that_stays_is_refused(make_way):
    way = make_way(old_version(times=99))
    assert way_old() in way.refusal().message
    assert way.proxy.fired == {Kind.REDIRECT: 6}
    assert way.fetcher.fetched.bytes_fetched == 0


def test_an_older_version_under_the_same_name_is_refused(make_way):
    """As a cache that ignores what is asked for gives it: what is the same in both is kept, the rest is asked for three times more."""
    way = make_way()
    (way.system.parent / "store" / way.blob.sha256).write_bytes(OLD)
    assert way.refusal().code == "blob-altered"
    same = 1_000_000 // CHUNK * CHUNK
    assert way.fetcher.fetched.bytes_fetched == TOTAL + 3 * (TOTAL - same)
    assert way.fetcher.fetched.retries == 3
    assert list(way.system.rglob("*.part")) == []


def test_a_redirect_to_another_host_is_refused_at_once(make_way):
    way = make_way(Fault(Kind.REDIRECT, to="http://127.0.0.2:9/x", times=99))
    error = way.refusal()
    assert (error.code, way.proxy.fired) == ("redirect-refused", {Kind.REDIRECT: 1})
    assert "127.0.0.2" in error.message


def test_the_next_run_goes_on_from_right_chunks_only(make_way):
    first = make_way(Fault(Kind.TRUNCATE, 1_000_000), Fault(Kind.BUSY, 1, times=99), tries=2)
    assert "503" in first.refusal().message
    partial = next(first.system.rglob("*.part"))
    there = partial.stat().st_size
    assert there == 1_000_000
    with partial.open("r+b") as file:
        file.seek(CHUNK + 17)
        file.write(b"?")
    again = make_way()
    assert again.arrives()
    assert again.fetcher.fetched.bytes_fetched == TOTAL - there + CHUNK


def make_lying(way):
    """Give the agent the chunk list of another blob."""
    sums = list_chunks(way.system.parent / "store" / way_old(), CHUNK)
    lists = {way.blob.sha256: base64.b64encode(sums).decode()}
    way.fetcher._chunks = parse_chunks({"size_bytes": CHUNK, "sha256": lists})
    return way


def test_the_image_list_decides_and_not_the_chunk_list(make_way):
    assert make_lying(make_way()).arrives()


def test_a_chunk_list_that_lies_cannot_make_a_wrong_blob_right(make_way):
    way = make_lying(make_way())
    (way.system.parent / "store" / way.blob.sha256).write_bytes(OLD)
    assert way.refusal().code == "blob-altered"


@pytest.mark.parametrize(
    "value",
    [{}, [], {"size_bytes": 1, "sha256": {}}, {"size_bytes": True, "sha256": {}}, {"size_bytes": 1 << 40, "sha256": {}},
     {"size_bytes": CHUNK, "sha256": {"x": ""}}, {"size_bytes": CHUNK, "sha256": {"a" * 64: "?"}},
     {"size_bytes": CHUNK, "sha256": {"a" * 64: 5}}],
)  # fmt: skip
def test_chunk_lists_are_parsed_strictly(value):
    with pytest.raises(AgentError, match="chunks"):
        parse_chunks(value)


def test_a_list_of_the_wrong_length_is_no_list():
    blob = Blob("a" * 64, TOTAL, "", "base")
    short = parse_chunks({"size_bytes": CHUNK, "sha256": {"a" * 64: base64.b64encode(b"x" * 32).decode()}})
    assert short.of(blob).digests == ()
