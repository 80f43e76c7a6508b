"""The store in a folder: blobs by digest, records by key, versions written once."""

import threading

import pytest

from qtrade.errors import ConflictError, NotFound, TrustError
from qtrade.manifest import Image
from qtrade.store import BlobRecord, LocalStore, PublishedImage
from tests.fakes.examples import make_image, sha

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def as_published(image: Image) -> PublishedImage:
    return PublishedImage(image.to_json(), image.list_text(), b"s" * 64, {"payload": image.id})


def test_a_version_comes_back_as_it_was_published(store) -> None:
    image = make_image()
    store.publish(image, as_published(image))
    assert store.read("demo", "0.1.0") == as_published(image)


def test_the_same_id_may_be_published_again_and_changes_nothing(store) -> None:
    image = make_image()
    store.publish(image, as_published(image))
    store.publish(image, PublishedImage(image.to_json(), image.list_text(), b"t" * 64, {}))
    assert store.read("demo", "0.1.0") == as_published(image)


def test_another_id_under_the_same_version_is_a_conflict(store) -> None:
    first, second = make_image(), make_image(cmdline="debug")
    store.publish(first, as_published(first))
    with pytest.raises(ConflictError, match=r"version 0\.1\.0 of demo exists with another id") as caught:
        store.publish(second, as_published(second))
    assert first.id in caught.value.details
    assert second.id in caught.value.details
    assert store.read("demo", "0.1.0") == as_published(first)


def test_two_that_race_to_publish_two_ids_have_one_winner(store) -> None:
    for number in range(20):
        images = [make_image(version=f"0.{number}.0", cmdline=cmdline) for cmdline in ("a", "b")]
        barrier = threading.Barrier(2)
        refused: list[str] = []

        def publish(image: Image, barrier=barrier, refused=refused) -> None:
            barrier.wait()
            try:
                store.publish(image, as_published(image))
            except ConflictError:
                refused.append(image.id)

        threads = [threading.Thread(target=publish, args=(image,)) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (loser,) = refused
        winner = next(image for image in images if image.id != loser)
        assert store.read("demo", f"0.{number}.0") == as_published(winner)
    assert not list((store.root / "versions/demo").glob(".new-*"))


def test_a_missing_version_lists_those_that_there_are(store) -> None:
    for version in ("0.10.0", "0.9.0"):
        image = make_image(version=version)
        store.publish(image, as_published(image))
    with pytest.raises(NotFound, match=r"no version 7 of demo") as caught:
        store.read("demo", "7")
    assert caught.value.details == "versions of demo: 0.9.0, 0.10.0"


def test_an_unknown_recipe_has_no_versions(store) -> None:
    assert store.versions("ghost") == ()
    with pytest.raises(NotFound) as caught:
        store.read("ghost", "1")
    assert caught.value.details == "versions of ghost: none"


def test_versions_are_in_natural_order(store) -> None:
    for version in ("0.10.0", "1.0", "0.9.0", "0.9.0-rc1", "a", "0.9.10"):
        image = make_image(version=version)
        store.publish(image, as_published(image))
    assert store.versions("demo") == ("0.9.0", "0.9.0-rc1", "0.9.10", "0.10.0", "1.0", "a")


@pytest.mark.parametrize("name", ["image.json", "list", "list.sig", "image.dsse.json"])
def test_a_version_that_lost_a_file_is_damaged_not_missing(store, name) -> None:
    image = make_image()
    store.publish(image, as_published(image))
    (store.root / "versions/demo/0.1.0" / name).unlink()
    with pytest.raises(TrustError, match="damaged in the store") as caught:
        store.read("demo", "0.1.0")
    assert name in caught.value.details


@pytest.mark.parametrize("name", ["image.json", "list", "image.dsse.json"])
def test_a_file_that_is_no_text_is_damage(store, name) -> None:
    image = make_image()
    store.publish(image, as_published(image))
    (store.root / "versions/demo/0.1.0" / name).write_bytes(b"\xff\xfe{")
    with pytest.raises(TrustError, match="damaged in the store"):
        store.read("demo", "0.1.0")


def test_a_record_comes_back(store, tmp_path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"x")
    store.add_blob(blob, sha("x"))
    record = BlobRecord(sha("key"), "app", sha("x"), 1, sha("v"), ("d 0755:0:0 etc", "f etc/x"), {"index": "i"})
    store.add_record(record)
    assert store.find_record(sha("key")) == record


def test_a_record_whose_blob_is_gone_counts_as_none(store, tmp_path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"x")
    store.add_blob(blob, sha("x"))
    store.add_record(BlobRecord(sha("key"), "app", sha("x"), 1))
    store.open_blob(sha("x")).unlink()
    assert store.find_record(sha("key")) is None


def test_a_record_of_a_check_needs_no_blob(store) -> None:
    store.add_record(BlobRecord(sha("key"), "specs", facts={"ran": "7"}))
    assert store.find_record(sha("key")).facts == {"ran": "7"}


def test_a_record_that_is_no_json_counts_as_none(store) -> None:
    (store.root / "records" / f"{sha('key')}.json").write_text("{")
    assert store.find_record(sha("key")) is None
    assert store.find_record(sha("other")) is None


def test_a_blob_is_moved_in_and_read_only(store, tmp_path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"x")
    store.add_blob(blob, sha("x"))
    path = store.open_blob(sha("x"))
    assert (path.read_bytes(), path.stat().st_mode & 0o777, blob.exists()) == (b"x", 0o444, False)


def test_a_blob_that_is_there_stays(store, tmp_path) -> None:
    for content in (b"first", b"second"):
        blob = tmp_path / "blob"
        blob.write_bytes(content)
        store.add_blob(blob, sha("x"))
    assert store.open_blob(sha("x")).read_bytes() == b"first"
    assert not (tmp_path / "blob").exists()


def test_a_missing_blob_is_named(store) -> None:
    assert not store.has_blob(sha("x"))
    with pytest.raises(NotFound, match=sha("x")):
        store.open_blob(sha("x"))
