"""Who holds a host: two operators, two machines, one store; on a folder and on S3's shapes."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flash.lease import lease
from qtrade.errors import ConflictError, ToolError, TrustError
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.blobs import LocalBlobs
from qtrade.store.leases import LEASE_S, HeldElsewhere, Leases
from qtrade.store.local import LocalObjects
from tests.fakes.reporter import RecordingReporter
from tests.fakes.s3_server import s3_server
from tests.fakes.s3_store import CREDENTIALS, open_objects, remote_store

pytestmark = pytest.mark.unit


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path, monkeypatch) -> Iterator[Store]:
    if request.param == "folder":
        objects = LocalObjects(tmp_path / "store")
        yield Store(objects, LocalBlobs(objects))
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server, open_objects(server.url, tmp_path / "scratch") as remote:
        yield remote_store(remote, tmp_path / "cache")


class Operator:
    """A machine with a state directory of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        state = folder / name
        self.settings = Settings(project=folder, state_dir=state, store=folder / "unused")
        self.reporter = RecordingReporter()

    def hold(self, store: Store, **options: float):
        return lease(self.settings, store, "rpc-1", self.reporter, **options)


@pytest.fixture
def one(tmp_path) -> Operator:
    return Operator(tmp_path, "one")


@pytest.fixture
def two(tmp_path) -> Operator:
    return Operator(tmp_path, "two")


def test_a_second_operator_is_told_who_holds_the_host_since_when(one, two, store) -> None:
    with one.hold(store) as held:
        told = rf"rpc-1 is held by {held.holder} \(process \d+\) since 20"
        with pytest.raises(HeldElsewhere, match=told) as caught, two.hold(store):
            pytest.fail("both hold the host")
        assert caught.value.exit_code == 8
        assert "runs out in" in caught.value.resolution
    with two.hold(store) as later:
        assert later.token > held.token
    assert one.reporter.lines == two.reporter.lines == []


def test_a_second_process_of_the_same_operator_is_told_too(one, store) -> None:
    with one.hold(store) as held:
        told = f"rpc-1 is held by another process that .*: {held.holder}, process"
        with pytest.raises(ConflictError, match=told), one.hold(store):
            pytest.fail("both hold the host")


def test_only_one_of_many_who_come_at_once_gets_the_host(tmp_path, store) -> None:
    leases, got, told = Leases(store.objects), [], []
    start = threading.Barrier(6)

    def take(number: int) -> None:
        start.wait()
        try:
            got.append(leases.take("rpc-1", holder=f"o{number}", pid=number, where=f"m{number}")[0])
        except ConflictError as error:
            told.append(error)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(told)) == (1, 5)
    assert leases.read("rpc-1") == got[0]


def test_a_lease_that_ran_out_is_taken_over_and_that_is_said(one, two, store, monkeypatch) -> None:
    leases = Leases(store.objects)
    dead, _ = leases.take("rpc-1", holder="ada@far", pid=7, where="far")
    with pytest.raises(HeldElsewhere, match=r"held by ada@far \(process 7\)"), two.hold(store):
        pass
    now = time.time()
    monkeypatch.setattr("qtrade.store.leases.time.time", lambda: now + LEASE_S + 1)
    with two.hold(store) as held:
        assert held.token > dead.token
        (line,) = two.reporter.lines
        assert line == "the lease of rpc-1 is taken over from ada@far (process 7), which did not give it back"
        # Who comes back from the dead learns of it, and cannot undo what the other one does.
        with pytest.raises(HeldElsewhere):
            leases.renew(dead)
        leases.release(dead)
        held.check()
        assert leases.read("rpc-1").is_held(now + LEASE_S + 1)


def test_a_killed_process_of_this_machine_is_followed_at_once(one, store) -> None:
    with one.hold(store) as held:
        left = Leases(store.objects).read("rpc-1")
    # As a kill leaves it: held, for long.
    store.objects.put("leases/rpc-1.json", replace(left, expires=time.time() + 1000).to_bytes())
    with one.hold(store) as again:
        assert again.token > held.token
    assert one.reporter.lines[0].startswith("the lease of rpc-1 is taken over from")


def test_a_lease_is_renewed_while_it_is_held(one, store) -> None:
    with one.hold(store, renew_s=0.05) as held:
        first = Leases(store.objects).read("rpc-1")
        deadline = time.monotonic() + 10
        while Leases(store.objects).read("rpc-1").expires == first.expires and time.monotonic() < deadline:
            time.sleep(0.02)
        assert Leases(store.objects).read("rpc-1").expires > first.expires
        held.check()
    assert Leases(store.objects).read("rpc-1").released


def check_until_lost(held) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        held.check()
        time.sleep(0.02)


def test_who_lost_the_host_learns_it(one, two, store, monkeypatch) -> None:
    with one.hold(store, renew_s=0.05) as held:
        left = Leases(store.objects).read("rpc-1")
        store.objects.put("leases/rpc-1.json", replace(left, nonce="other", holder="bob@near", pid=9).to_bytes())
        # A renewal reads the lease and then writes it: which of the two meets the other holder is chance.
        said = r"the lease of rpc-1 is lost: (.* held by bob@near|somebody else changed leases/rpc-1\.json)"
        with pytest.raises(ConflictError, match=said):
            check_until_lost(held)
    assert Leases(store.objects).read("rpc-1").holder == "bob@near"


def test_a_store_that_is_away_for_a_while_warns_once_and_ends_nothing(one, tmp_path) -> None:
    class Flaky(LocalObjects):
        away = False

        def get(self, key: str) -> tuple[bytes, str]:
            if self.away:
                raise ToolError("no route to the store")
            return super().get(key)

    objects = Flaky(tmp_path / "store")
    with one.hold(Store(objects, LocalBlobs(objects)), renew_s=0.02) as held:
        objects.away = True
        deadline = time.monotonic() + 10
        while not one.reporter.lines and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        objects.away = False
        held.check()
    assert one.reporter.lines == ["warning: the lease of rpc-1 could not be renewed: no route to the store"]
    assert Leases(objects).read("rpc-1").released


def test_tokens_grow_from_store_to_store(one, tmp_path) -> None:
    tokens = []
    for name in ("a", "b"):
        objects = LocalObjects(tmp_path / name)
        with one.hold(Store(objects, LocalBlobs(objects))) as held:
            tokens.append(held.token)
    assert min(tokens) > 1_700_000_000
    assert tokens[1] >= tokens[0]


def test_a_damaged_lease_frees_nobody(one, store) -> None:
    store.objects.put("leases/rpc-1.json", b"{}")
    with pytest.raises(TrustError, match="the lease of rpc-1 is damaged"), one.hold(store):
        pytest.fail("it was taken")
