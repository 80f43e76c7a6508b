"""The store on moto's S3, a server in a process of its own: the contract of its verbs, races, and uploads that are killed."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from qtrade.store import BlobRecord, PublishedImage
from qtrade.store.objects import Objects
from qtrade.store.s3 import S3Objects
from tests.fakes.examples import make_image
from tests.fakes.objects_contract import ObjectsContract
from tests.fakes.projects import add_blobs
from tests.fakes.racer import publish_in_two_processes
from tests.fakes.s3_store import CREDENTIALS, open_objects, remote_store

pytestmark = pytest.mark.integration

_ADDRESS = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
# Uploads the file of the first argument and dies by SIGKILL once as many parts as the second argument says are there.
_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.fakes.s3_store import open_objects
from qtrade.store import s3_upload
remember, path = s3_upload._remember, Path(sys.argv[1])
def remember_and_die(target, progress):
    remember(target, progress)
    if len(progress.parts) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
s3_upload._remember = remember_and_die
with open_objects(sys.argv[3], Path(sys.argv[4]), prefix=sys.argv[5]) as objects:
    objects.put_file("blobs/x", path, sys.argv[6])
"""


@pytest.fixture(scope="module")
def moto(tmp_path_factory) -> Iterator[str]:
    """The server's URL; it has the bucket `images`."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as sink, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        server = subprocess.Popen(command, stdout=sink, stderr=sink)
        try:
            url = _wait_for_address(log, server)
            client = boto3.client("s3", endpoint_url=url)
            client.create_bucket(Bucket="images")
            client.close()
            yield url
        finally:
            server.terminate()
            server.wait()


def _wait_for_address(log: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 120
    while (match := _ADDRESS.search(log.read_text())) is None:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return match[1]


@pytest.fixture
def prefix(request) -> str:
    """A place of each test's own in the bucket."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


@pytest.fixture
def objects(moto, tmp_path, prefix) -> Iterator[S3Objects]:
    with open_objects(moto, tmp_path / "cache/here", prefix=prefix) as objects:
        yield objects


class TestMoto(ObjectsContract):
    @pytest.fixture
    def objects(self, objects: Objects) -> Objects:
        return objects


def test_of_two_processes_that_publish_one_version_one_wins(moto, tmp_path, prefix) -> None:
    environment = {"QTRADE_STORE": f"s3://images/{prefix}", "QTRADE_S3_ENDPOINT": moto}
    outcome = publish_in_two_processes(environment, tmp_path, versions=5)
    for winners, errors, stored in outcome.values():
        assert winners == [stored]
        assert len(errors) == 1


def test_an_upload_killed_after_a_part_goes_on_with_the_others(moto, tmp_path, prefix) -> None:
    content = os.urandom(1 << 20) * 17  # four parts
    path, scratch = tmp_path / "layer", tmp_path / "scratch"
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    arguments = [str(path), "2", moto, str(scratch), prefix, sha256]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    with open_objects(moto, scratch, prefix=prefix) as objects:
        assert objects.size("blobs/x") is None, "half a blob can be seen"
        sent: list[int] = []
        objects._client.meta.events.register(
            "before-send.s3.UploadPart",
            lambda request, **_: sent.append(int(request.url.partition("partNumber=")[2][0])),
        )
        objects.put_file("blobs/x", path, sha256)
        assert sent == [3, 4]
        objects.fetch_file("blobs/x", tmp_path / "back", sha256, len(content))
    assert (tmp_path / "back").read_bytes() == content


def test_an_image_travels_by_way_of_the_store_to_another_machine(objects, tmp_path) -> None:
    image = make_image()
    ours, theirs = (remote_store(objects, tmp_path / name) for name in ("ours", "theirs"))
    add_blobs(ours, image, tmp_path / "new")
    layer = image.layers[1]
    ours.add_record(BlobRecord(layer.key, "app", layer.digest, layer.size), ["f etc/app"])
    ours.publish(image, PublishedImage(image.to_json(), image.list_text(), b"s" * 64, {}))
    assert theirs.read("demo", "0.1.0").document()["id"] == image.id
    assert theirs.paths(theirs.find_record(layer.key)) == ("f etc/app",)
    for digest, size in image.blobs().items():
        path = theirs.open_blob(digest)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert path.stat().st_size == size
        assert urllib.request.urlopen(theirs.blob_url(digest, 60)).read() == path.read_bytes()
