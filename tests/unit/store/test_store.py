"""The store, in a folder and in S3: blobs by digest, records by key, versions written once, attestations, channels."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from qtrade.errors import ConflictError, NotFound, TrustError, UsageError
from qtrade.manifest import Image
from qtrade.store import BlobRecord, ChannelPointer, LocalStore, PublishedImage, Store
from qtrade.store.blobs import DamagedBlob
from qtrade.store.local import digest_of
from tests.fakes.examples import blob_bytes, make_image, sha
from tests.fakes.projects import add_blobs

pytestmark = pytest.mark.unit


def as_published(image: Image) -> PublishedImage:
    return PublishedImage(image.to_json(), image.list_text(), b"s" * 64, {"payload": image.id})


@pytest.fixture
def publish(store, tmp_path):
    """Publish an image of `make_image` with its blobs."""

    def _publish(**changes) -> Image:
        image = make_image(**changes)
        add_blobs(store, image, tmp_path / "new")
        store.publish(image, as_published(image))
        return image

    return _publish


def test_a_version_comes_back_as_it_was_published(store, publish) -> None:
    image = publish()
    assert store.read("demo", "0.1.0") == as_published(image)
    assert (store.recipes(), store.versions("demo")) == (("demo",), ("0.1.0",))


def test_what_else_lies_among_the_versions_is_none(store, publish) -> None:
    publish()
    for key in ("versions/demo/0.0.9/image.json", "versions/demo/notes.txt", "versions/readme.json"):
        store.objects.put(key, b"{}")
    assert (store.recipes(), store.versions("demo")) == (("demo",), ("0.1.0",))


def test_the_same_id_may_be_published_again_and_changes_nothing(store, publish) -> None:
    image = publish()
    store.publish(image, PublishedImage(image.to_json(), image.list_text(), b"t" * 64, {}))
    assert store.read("demo", "0.1.0") == as_published(image)


def test_another_id_under_the_same_version_is_a_conflict(store, publish) -> None:
    first, second = publish(), make_image(cmdline="debug")
    with pytest.raises(ConflictError, match=r"version 0\.1\.0 of demo exists with another id") as caught:
        store.publish(second, as_published(second))
    assert first.id in caught.value.details
    assert second.id in caught.value.details
    assert store.read("demo", "0.1.0") == as_published(first)


def test_two_that_race_to_publish_two_ids_have_one_winner(store, publish) -> None:
    publish()  # its blobs are those of all below
    for number in range(1, 8):
        images = [make_image(version=f"0.1.{number}", cmdline=cmdline) for cmdline in ("a", "b")]
        barrier = threading.Barrier(2)
        refused: list[str] = []

        def run(image: Image, barrier=barrier, refused=refused) -> None:
            barrier.wait()
            try:
                store.publish(image, as_published(image))
            except ConflictError:
                refused.append(image.id)

        threads = [threading.Thread(target=run, args=(image,)) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (loser,) = refused
        winner = next(image for image in images if image.id != loser)
        assert store.read("demo", f"0.1.{number}") == as_published(winner)
    assert store.objects.list("claims/") == ()


@pytest.mark.parametrize("part", ["app", "kernel", "installer"])
def test_a_version_whose_blob_is_missing_is_not_published(store, tmp_path, part) -> None:
    image = make_image()
    add_blobs(store, image, tmp_path / "new")
    store._blobs.flush()
    digest = image.layers[1].digest if part == "app" else getattr(image, part).digest
    store.objects.delete(f"blobs/{digest}")
    with pytest.raises(NotFound, match=digest):
        store.publish(image, as_published(image))
    assert store.versions("demo") == ()
    assert store.objects.list("claims/") == ()


def test_a_version_with_a_blob_of_another_size_is_not_published(store, publish, tmp_path) -> None:
    image = publish()
    store.objects.delete(f"blobs/{image.kernel.digest}")
    store.objects.put(f"blobs/{image.kernel.digest}", b"short")
    other = make_image(version="0.2.0")
    with pytest.raises(NotFound, match=image.kernel.digest):
        store.publish(other, as_published(other))


def test_a_missing_version_lists_those_that_there_are(store, publish) -> None:
    publish(version="0.10.0")
    publish(version="0.9.0")
    publish(version="0.10.0-rc1")
    with pytest.raises(NotFound, match=r"no version 7 of demo") as caught:
        store.read("demo", "7")
    assert caught.value.details == "versions of demo: 0.9.0, 0.10.0-rc1, 0.10.0"
    with pytest.raises(NotFound) as caught:
        store.read("ghost", "1")
    assert caught.value.details == "versions of ghost: none"


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"{}", b"[]", b'{"schema_version": 2}', b""])
def test_a_document_that_cannot_be_read_is_damage(store, publish, content) -> None:
    publish()
    store.objects.put("versions/demo/0.1.0.json", content)
    with pytest.raises(TrustError, match="damaged in the store"):
        store.read("demo", "0.1.0")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "a b"])
def test_a_name_that_leads_elsewhere_is_refused(store, name) -> None:
    for ask in (lambda: store.read("demo", name), lambda: store.read(name, "1"), lambda: store.open_blob(name)):
        with pytest.raises(UsageError, match="is no name for a store"):
            ask()


def test_a_record_comes_back_with_its_paths(store, tmp_path) -> None:
    add_blob(store, tmp_path, b"x")
    record = BlobRecord(sha("key"), "app", sha("x"), 1, sha("v"), {"index": "i"})
    paths = ("d 0755:0:0 etc", "f etc/two\nlines", "f etc/\udcff")
    store.add_record(record, paths)
    assert store.find_record(sha("key")) == record
    assert store.paths(record) == paths
    with pytest.raises(NotFound):
        store.paths(replace(record, key=sha("other")))


def add_blob(store: Store, folder: Path, content: bytes) -> str:
    path = folder / "blob"
    path.write_bytes(content)
    digest = sha(content.decode())
    store.add_blob(path, digest)
    assert not path.exists()
    return digest


def test_a_record_whose_blob_is_gone_counts_as_none(store) -> None:
    store.add_record(BlobRecord(sha("key"), "app", sha("x"), 1))
    assert store.find_record(sha("key")) is None


def test_a_record_of_a_check_needs_no_blob(store) -> None:
    store.add_record(BlobRecord(sha("key"), "specs", facts={"ran": "7"}))
    assert store.find_record(sha("key")).facts == {"ran": "7"}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"key": "k", "name": "n", "paths": ["f x"]}'])
def test_a_record_that_cannot_be_read_counts_as_none(store, content) -> None:
    store.objects.put(f"records/{sha('key')}.json", content)
    assert store.find_record(sha("key")) is None
    assert store.find_record(sha("other")) is None


def test_a_blob_is_there_at_once_and_read_only(store, tmp_path) -> None:
    digest = add_blob(store, tmp_path, b"x")
    assert store.has_blob(digest)
    path = store.open_blob(digest)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"x", 0o444)
    add_blob(store, tmp_path, b"x")
    assert store.open_blob(digest).read_bytes() == b"x"


@pytest.fixture
def local(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "folder")


def spoil(store: LocalStore, digest: str) -> None:
    path = store.root / "blobs" / digest
    path.chmod(0o600)
    path.write_bytes(b"!" + path.read_bytes()[1:])


def test_a_damaged_blob_is_named_and_counts_as_missing_from_then_on(local, tmp_path) -> None:
    digest = add_blob(local, tmp_path, b"layer")
    local.add_record(BlobRecord(sha("key"), "app", digest, 5))
    spoil(local, digest)
    fresh = LocalStore(local.root)
    assert fresh.find_record(sha("key")), "a look-up reads no blob"
    with pytest.raises(DamagedBlob, match=f"blob {digest} is damaged") as caught:
        fresh.open_blob(digest)
    assert "5 bytes" in caught.value.details
    assert fresh.find_record(sha("key")) is None
    add_blob(fresh, tmp_path, b"layer")
    assert LocalStore(local.root).open_blob(digest).read_bytes() == b"layer"
    assert local.objects.sweep(-1.0) == 1
    assert [path.name for path in (local.root / "blobs").iterdir()] == [digest]


def test_every_thread_that_asks_for_a_damaged_blob_is_told_so(local, tmp_path) -> None:
    digest = add_blob(local, tmp_path, b"layer")
    spoil(local, digest)
    fresh = LocalStore(local.root)

    def ask(_: int) -> str:
        with pytest.raises(DamagedBlob) as caught:
            fresh.open_blob(digest)
        return caught.value.brief

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(64))) == {f"blob {digest} is damaged in the store"}


def test_a_blob_that_is_added_again_replaces_a_damaged_one(local, tmp_path) -> None:
    digest = add_blob(local, tmp_path, b"layer")
    spoil(local, digest)
    add_blob(local, tmp_path, b"layer")
    assert LocalStore(local.root).open_blob(digest).read_bytes() == b"layer"


def test_a_blob_is_read_once_per_process_however_many_ask(local, tmp_path, monkeypatch) -> None:
    digest = add_blob(local, tmp_path, b"layer")
    read: list[Path] = []
    monkeypatch.setattr("qtrade.store.blobs.digest_of", lambda path: read.append(path) or digest_of(path))
    local.open_blob(digest)
    assert read == [], "whoever added it knew its digest"
    other = LocalStore(local.root)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(other.open_blob, [digest] * 8))
    assert len(read) == 1
    other.open_blob(digest, afresh=True)
    assert len(read) == 2


def test_a_missing_blob_is_named(store) -> None:
    assert not store.has_blob(sha("x"))
    with pytest.raises(NotFound, match=sha("x")):
        store.open_blob(sha("x"))


def test_documents_are_kept_by_their_digest(store) -> None:
    digest = store.put_document(b"a list of parts")
    assert digest == sha("a list of parts")
    assert store.put_document(b"a list of parts") == digest
    assert store.document(digest) == b"a list of parts"
    store.objects.put(f"blobs/{digest}", b"a list of parts!")
    with pytest.raises(TrustError, match="damaged in the store"):
        store.document(digest)
    store.put_document(b"a list of parts")
    assert store.document(digest) == b"a list of parts"
    with pytest.raises(NotFound, match=sha("ghost")):
        store.document(sha("ghost"))


def test_attestations_come_back_oldest_first_and_once(store) -> None:
    image_id = sha("image")
    assert store.attestations(image_id) == ()
    envelopes = [{"payload": name, "signatures": []} for name in ("zeta", "alpha", "mid")]
    for envelope in (*envelopes, envelopes[0]):
        store.attest(image_id, envelope)
    assert store.attestations(image_id) == tuple(envelopes)
    assert store.attestations(sha("other")) == ()
    key = store.objects.list(f"attestations/{image_id}/")[1].key
    store.objects.put(key, b'{"payload":"forged"}')
    with pytest.raises(TrustError, match="is damaged in the store"):
        store.attestations(image_id)


def test_two_who_attest_at_once_are_both_heard(store) -> None:
    image_id, barrier = sha("image"), threading.Barrier(4)

    def attest(number: int) -> None:
        barrier.wait()
        store.attest(image_id, {"payload": str(number)})

    threads = [threading.Thread(target=attest, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(envelope["payload"] for envelope in store.attestations(image_id)) == ["0", "1", "2", "3"]


def test_a_channel_moves_by_compare_and_swap(store, publish) -> None:
    one = ChannelPointer("0.1.0", publish().id, 1)
    two = ChannelPointer("0.2.0", publish(version="0.2.0", cmdline="b").id, 2)
    assert store.channel("demo", "staging") is None
    store.move_channel("demo", "staging", one, None)
    with pytest.raises(ConflictError, match="somebody else moved staging of demo") as caught:
        store.move_channel("demo", "staging", two, None)
    assert caught.value.details == f"expected: nothing\nfound:    0.1.0 {one.image_id} (sequence 1)"
    store.move_channel("demo", "staging", two, one)
    assert store.channel("demo", "staging") == two
    with pytest.raises(ConflictError):
        store.move_channel("demo", "staging", one, one)
    assert store.channel("demo", "production") is None
    assert store.objects.list("claims/") == ()


def test_of_many_who_move_a_channel_one_wins(store, publish) -> None:
    image = publish()
    barrier, lost = threading.Barrier(6), []

    def move(number: int) -> None:
        barrier.wait()
        try:
            store.move_channel("demo", "dev", ChannelPointer("0.1.0", image.id, number), None)
        except ConflictError:
            lost.append(number)

    threads = [threading.Thread(target=move, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 5
    assert store.channel("demo", "dev").sequence not in lost


def test_a_channel_points_at_what_is_published_only(store, publish) -> None:
    image = publish()
    with pytest.raises(NotFound, match="no version 9 of demo"):
        store.move_channel("demo", "dev", ChannelPointer("9", image.id, 1), None)
    with pytest.raises(ConflictError, match=f"is image {image.id}, not"):
        store.move_channel("demo", "dev", ChannelPointer("0.1.0", sha("x"), 1), None)
    with pytest.raises(UsageError, match="there is no channel beta"):
        store.channel("demo", "beta")
    store.objects.put("channels/demo/dev.json", b"{")
    with pytest.raises(TrustError, match="channel dev of demo is damaged"):
        store.channel("demo", "dev")


def test_what_hosts_keep_is_remembered(store) -> None:
    assert (store.host_images("rpc-1"), store.hosts()) == ((), ())
    store.set_host_images("rpc-1", [sha("b"), sha("a"), sha("b")])
    store.set_host_images("rpc-2", [])
    assert store.host_images("rpc-1") == tuple(sorted((sha("a"), sha("b"))))
    assert store.hosts() == ("rpc-1", "rpc-2")


def test_only_a_remote_store_has_urls(request, store, tmp_path) -> None:
    digest = add_blob(store, tmp_path, blob_bytes("kernel"))
    url = store.blob_url(digest, 60)
    assert (url is None) == (request.node.callspec.params["store"] == "local")
