"""What goes wrong between qtrade and an S3 is healed or refused, never accepted. Each test asserts that its fault fired."""

import hashlib
import json
import os
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from qtrade.errors import ConflictError, QtradeError, TrustError
from qtrade.settings import S3Address
from qtrade.store import BlobRecord, PublishedImage, claims
from qtrade.store.objects import Changed, Exists
from qtrade.store.s3 import S3Objects
from tests.fakes.examples import make_image
from tests.fakes.projects import add_blobs
from tests.fakes.s3_server import S3Server, Stored
from tests.fakes.s3_store import PART, open_objects, remote_store

pytestmark = pytest.mark.unit

LARGE = os.urandom(1 << 20) * 13  # three parts: two of 5 MiB, one of 3
SMALL = b"small" * 1000


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=[SMALL, LARGE], ids=["whole", "parts"])
def content(request) -> bytes:
    return request.param


@pytest.fixture
def source(tmp_path, content) -> Path:
    path = tmp_path / "source"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["slow_down", "reset", "lost_answer"])
def test_an_upload_survives(server, s3, source, content, kind) -> None:
    fault = server.plant(kind, "PUT", "blobs/x", times=2)
    s3.put_file("blobs/x", source, sha(content))
    assert fault.fired == 2
    assert server.objects["qtrade/blobs/x"].content == content
    assert server.uploads == {}


def test_a_server_that_stays_overloaded_is_named(server, s3, source, content) -> None:
    fault = server.plant("slow_down", "PUT", "blobs/x", times=100)
    with pytest.raises(QtradeError, match="SlowDown") as caught:
        s3.put_file("blobs/x", source, sha(content))
    assert fault.fired == 3
    assert "try again later" in caught.value.resolution
    assert "qtrade/blobs/x" not in server.objects


def test_bytes_that_were_damaged_on_the_way_up_are_refused_by_the_server(server, s3, source, content) -> None:
    fault = server.plant("damaged_upload", "PUT", "blobs/x")
    with pytest.raises(QtradeError, match="XAmzContentSHA256Mismatch"):
        s3.put_file("blobs/x", source, sha(content))
    assert fault.fired == 1
    assert "qtrade/blobs/x" not in server.objects


def test_checksums_of_boto3_are_checked_too_where_they_are_wanted(server, tmp_path, source, content) -> None:
    with open_objects(server.url, tmp_path / "scratch") as plain:
        address = replace(plain._address, checksums="when_supported")
    supported = S3Objects(address, tmp_path, part_bytes=PART)
    supported.put_file("blobs/x", source, sha(content))
    supported.close()
    assert server.objects["qtrade/blobs/x"].content == content
    assert any("x-amz-checksum-crc32" in names for names in server.headers)


@pytest.mark.parametrize("kind", ["lost_answer", "reset", "slow_down"])
def test_completing_an_upload_survives(server, s3, tmp_path, kind) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    fault = server.plant(kind, "POST", "uploadId=")
    s3.put_file("blobs/x", path, sha(LARGE))
    assert fault.fired == 1
    assert server.objects["qtrade/blobs/x"].content == LARGE


def test_an_interrupted_upload_goes_on_without_sending_finished_parts_again(server, tmp_path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    fault = server.plant("reset", "PUT", "partNumber=3", times=100)
    with open_objects(server.url, tmp_path / "scratch") as first, pytest.raises(QtradeError, match="broke off"):
        first.put_file("blobs/x", path, sha(LARGE))
    assert fault.fired > 1
    server.faults.clear()
    server.log.clear()
    with open_objects(server.url, tmp_path / "scratch") as second:
        second.put_file("blobs/x", path, sha(LARGE))
    sent = [(target.partition("partNumber=")[2][:1], size) for method, target, size in server.log if method == "PUT"]
    assert sent == [("3", 3 << 20)]
    assert server.objects["qtrade/blobs/x"].content == LARGE
    assert not list((tmp_path / "scratch/uploads").iterdir())


def test_a_part_that_the_server_forgot_is_sent_again(server, tmp_path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    server.plant("reset", "PUT", "partNumber=3", times=100)
    with open_objects(server.url, tmp_path / "scratch") as first, pytest.raises(QtradeError):
        first.put_file("blobs/x", path, sha(LARGE))
    (upload,) = server.uploads.values()
    upload.parts[1].etag = '"of another part"'
    server.faults.clear()
    server.log.clear()
    with open_objects(server.url, tmp_path / "scratch") as second:
        second.put_file("blobs/x", path, sha(LARGE))
    assert [server.count("PUT", f"partNumber={number}") for number in (1, 2, 3)] == [1, 0, 1]
    assert server.objects["qtrade/blobs/x"].content == LARGE


@pytest.mark.parametrize("fault", ["upload gone", "state unreadable", "state of another bucket"])
def test_an_upload_that_cannot_be_taken_up_begins_anew(server, tmp_path, fault) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    server.plant("reset", "PUT", "partNumber=2", times=100)
    with open_objects(server.url, tmp_path / "scratch") as first, pytest.raises(QtradeError):
        first.put_file("blobs/x", path, sha(LARGE))
    (state,) = (tmp_path / "scratch/uploads").iterdir()
    if fault == "upload gone":
        server.uploads.clear()
    elif fault == "state unreadable":
        state.write_text("{")
    else:
        state.write_text(json.dumps({**json.loads(state.read_text()), "at": {"Bucket": "other", "Key": "x"}}))
    server.faults.clear()
    server.log.clear()
    with open_objects(server.url, tmp_path / "scratch") as second:
        second.put_file("blobs/x", path, sha(LARGE))
        assert server.count("PUT", "partNumber=") == 3
        assert server.objects["qtrade/blobs/x"].content == LARGE
        assert second.sweep(-60) == (0 if fault == "upload gone" else 1)
    assert server.uploads == {}


@pytest.mark.parametrize("kind", ["truncated", "reset", "lost_answer", "slow_down", "wrong_bytes"])
def test_a_download_survives(server, s3, source, content, tmp_path, kind) -> None:
    s3.put_file("blobs/x", source, sha(content))
    fault = server.plant(kind, "GET", "blobs/x")
    s3.fetch_file("blobs/x", tmp_path / "target", sha(content), len(content))
    assert fault.fired == 1
    assert (tmp_path / "target").read_bytes() == content
    assert not list(tmp_path.glob(".*.part"))


def test_a_download_goes_on_where_it_broke_off(server, tmp_path) -> None:
    server.objects["qtrade/blobs/x"] = stored(LARGE)
    fault = server.plant("truncated", "GET", "blobs/x", times=3)
    with open_objects(server.url, tmp_path / "scratch") as objects:
        objects.fetch_file("blobs/x", tmp_path / "target", sha(LARGE), len(LARGE))
    assert fault.fired == 3
    assert (tmp_path / "target").read_bytes() == LARGE
    assert server.count("GET", "blobs/x") == 4


def test_what_a_killed_download_left_is_taken_up(server, s3, tmp_path) -> None:
    server.objects["qtrade/blobs/x"] = stored(LARGE)
    (tmp_path / ".target.part").write_bytes(LARGE[: 4 << 20])
    fault = server.plant("wrong_bytes", "GET", "blobs/x", first=2)
    s3.fetch_file("blobs/x", tmp_path / "target", sha(LARGE), len(LARGE))
    assert (server.count("GET", "blobs/x"), fault.fired) == (1, 0)
    assert (tmp_path / "target").read_bytes() == LARGE


@pytest.mark.parametrize("left", [b"x" * (4 << 20), LARGE + b"more", LARGE[:-1] + b"!"], ids=["other", "long", "last"])
def test_what_is_wrong_of_a_killed_download_is_thrown_away(server, s3, tmp_path, left) -> None:
    server.objects["qtrade/blobs/x"] = stored(LARGE)
    (tmp_path / ".target.part").write_bytes(left)
    s3.fetch_file("blobs/x", tmp_path / "target", sha(LARGE), len(LARGE))
    assert (tmp_path / "target").read_bytes() == LARGE


def test_an_object_that_is_damaged_in_the_store_is_never_accepted(server, s3, tmp_path) -> None:
    server.objects["qtrade/blobs/x"] = stored(LARGE[:-1] + b"!")
    with pytest.raises(TrustError, match="blobs/x is damaged in the store"):
        s3.fetch_file("blobs/x", tmp_path / "target", sha(LARGE), len(LARGE))
    assert server.count("GET", "blobs/x") == 2
    assert list(tmp_path.glob("*target*")) == []


def test_a_connection_that_keeps_breaking_is_an_error(server, s3, tmp_path) -> None:
    server.objects["qtrade/blobs/x"] = stored(SMALL)
    fault = server.plant("reset", "GET", "blobs/x", times=10_000)
    with pytest.raises(QtradeError, match="cannot be reached or broke off") as caught:
        s3.fetch_file("blobs/x", tmp_path / "target", sha(SMALL), len(SMALL))
    assert fault.fired > 1
    assert "QTRADE_S3_ENDPOINT" in caught.value.resolution
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", ["truncated", "reset", "slow_down"])
def test_reading_a_document_survives(server, s3, kind) -> None:
    s3.put("v/1", b"document")
    fault = server.plant(kind, "GET", "v/1", times=2)
    assert s3.get("v/1")[0] == b"document"
    assert fault.fired == 2


def test_our_own_write_whose_answer_was_lost_is_no_conflict(server, s3) -> None:
    faults = [server.plant("lost_answer", "PUT", key) for key in ("v/1", "c/1")]
    s3.put_new("v/1", b"document")
    s3.put_if("c/1", b"one", None)
    assert [fault.fired for fault in faults] == [1, 1]
    _, etag = s3.get("c/1")
    fault = server.plant("lost_answer", "PUT", "c/1")
    s3.put_if("c/1", b"two", etag)
    assert fault.fired == 1
    assert (s3.get("v/1")[0], s3.get("c/1")[0]) == (b"document", b"two")


def test_the_write_of_another_whose_answer_ours_lost_is_a_conflict(server, s3) -> None:
    s3.put("v/1", b"of another")
    fault = server.plant("reset", "PUT", "v/1")
    with pytest.raises(Exists):
        s3.put_new("v/1", b"ours")
    with pytest.raises(Changed):
        s3.put_if("v/1", b"ours", '"some etag"')
    assert fault.fired == 1
    assert s3.get("v/1")[0] == b"of another"


def test_a_presigned_url_gives_the_bytes_until_it_expires(server, s3) -> None:
    s3.put("blobs/x", SMALL)
    url = s3.url("blobs/x", 60)
    assert urllib.request.urlopen(url).read() == SMALL
    ranged = urllib.request.Request(url, headers={"Range": "bytes=4990-"})
    assert urllib.request.urlopen(ranged).read() == SMALL[4990:]
    server.clock_offset_s = 61
    assert status_of(url) == 403
    server.clock_offset_s = 0
    assert status_of(url.replace("blobs/x", "blobs/y")) == 403
    assert status_of(url.replace("Expires=60", "Expires=6000")) == 403
    assert status_of(url.partition("?")[0]) == 403


def status_of(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)
    with caught.value as answer:
        return answer.code


def test_a_clock_that_is_wrong_or_a_bucket_that_is_not_there_is_named(server, s3, tmp_path) -> None:
    server.clock_offset_s = 3600
    with pytest.raises(QtradeError, match="RequestTimeTooSkewed") as caught:
        s3.get("v/1")
    assert "clock" in caught.value.resolution
    server.clock_offset_s = 0
    with pytest.raises(QtradeError, match="there is no bucket"):
        S3Objects(S3Address("ghost", "", server.url), tmp_path).get("v/1")


def test_a_killed_bake_s_uploads_are_taken_up_by_the_next(server, s3, tmp_path) -> None:
    """The layer lies in the scratch folder and its record in the store; the blob itself never arrived."""
    digest, cache = sha(LARGE), tmp_path / "cache"
    (tmp_path / "layer").write_bytes(LARGE)
    fault = server.plant("reset", "PUT", f"blobs/{digest}", times=10_000)
    killed = remote_store(s3, cache)
    killed.add_blob(tmp_path / "layer", digest)
    killed.add_record(BlobRecord(sha(b"key"), "app", digest, len(LARGE)))
    with pytest.raises(QtradeError):
        killed._blobs.flush()
    assert fault.fired > 1
    server.faults.clear()
    following = remote_store(s3, cache)
    assert following.find_record(sha(b"key")).digest == digest
    following._blobs.flush()
    assert server.objects[f"qtrade/blobs/{digest}"].content == LARGE


def test_a_scratch_file_that_was_damaged_is_fetched_again(server, s3, tmp_path) -> None:
    (tmp_path / "layer").write_bytes(SMALL)
    store = remote_store(s3, tmp_path / "cache")
    store.add_blob(tmp_path / "layer", sha(SMALL))
    store._blobs.flush()
    path = store.open_blob(sha(SMALL))
    assert server.count("GET", "blobs/") == 0
    path.chmod(0o600)
    path.write_bytes(b"!" + SMALL[1:])
    other = remote_store(s3, tmp_path / "cache")
    assert other.open_blob(sha(SMALL)).read_bytes() == SMALL
    assert server.count("GET", f"blobs/{sha(SMALL)}") == 1


def test_a_damaged_scratch_file_is_not_uploaded(server, s3, tmp_path) -> None:
    store = remote_store(s3, tmp_path / "cache")
    (tmp_path / "cache/blobs").mkdir(parents=True)
    (tmp_path / "cache/blobs" / sha(SMALL)).write_bytes(b"half")
    store.add_record(BlobRecord(sha(b"key"), "app", sha(SMALL), len(SMALL)))
    assert store.find_record(sha(b"key")) is None
    store._blobs.flush()
    assert server.count("PUT", f"blobs/{sha(SMALL)}") == 0


def test_only_what_the_store_lacks_is_uploaded(server: S3Server, s3, tmp_path) -> None:
    for _ in range(2):
        (tmp_path / "layer").write_bytes(SMALL)
        store = remote_store(s3, tmp_path / "cache")
        store.add_blob(tmp_path / "layer", sha(SMALL))
        store._blobs.flush()
    assert server.count("PUT", "blobs/") == 1


def test_a_gc_that_runs_is_waited_for_and_named(server, s3, tmp_path) -> None:
    with claims.collecting(s3), pytest.raises(ConflictError, match="is being collected"):  # noqa: SIM117
        with claims.claim(s3, claims.Claim(), patience_s=0):
            pytest.fail("the claim was given beside a collector")
    with claims.claim(s3, claims.Claim(frozenset({"d"}))):
        assert claims.read_claims(s3).blobs == {"d"}
    assert claims.read_claims(s3).blobs == set()


def stored(content: bytes) -> Stored:
    return Stored(content, f'"{hashlib.md5(content).hexdigest()}"')


def test_blobs_are_uploaded_side_by_side(server, s3, tmp_path) -> None:
    store = remote_store(s3, tmp_path / "cache")
    fault = server.plant("meet", "PUT", "blobs/", times=2)
    for content in (b"one", b"two"):
        (tmp_path / "layer").write_bytes(content)
        store.add_blob(tmp_path / "layer", sha(content))
    store._blobs.flush()
    assert (fault.fired, server.meeting.broken) == (2, False)
    assert {key for key in server.objects if "blobs/" in key} == {
        f"qtrade/blobs/{sha(name)}" for name in (b"one", b"two")
    }


def test_a_version_whose_upload_failed_is_not_published(server, s3, tmp_path) -> None:
    store, image = remote_store(s3, tmp_path / "cache"), make_image()
    fault = server.plant("slow_down", "PUT", f"blobs/{image.kernel.digest}", times=10_000)
    add_blobs(store, image, tmp_path / "new")
    with pytest.raises(QtradeError, match="SlowDown"):
        store.publish(image, PublishedImage(image.to_json(), image.list_text(), b"", {}))
    assert fault.fired == 3
    assert store.versions("demo") == ()
