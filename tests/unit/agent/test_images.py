"""Images on a system partition that is a folder."""

import hashlib
import json

import pytest

from flash.agent import images
from flash.agent.errors import AgentError
from flash.agent.job import parse_job

pytestmark = pytest.mark.unit


@pytest.fixture
def make_image(job_fields, image):
    def make(**blobs):
        image.blobs = {name: text.encode() for name, text in blobs.items()}
        parsed = parse_job(json.dumps(job_fields(image=image.as_job())).encode()).image
        assert parsed is not None
        return parsed

    return make


def put(system, image, *, entry=True):
    for blob in image.contents.blobs:
        path = system / blob.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    images.write_image(system, image)
    if entry:
        images.write_entry(system, image.image_id, "boot\n")


def test_image_is_installed_only_with_its_entry(tmp_path, make_image):
    image = make_image(base="b")
    put(tmp_path, image, entry=False)
    assert images.installed(tmp_path) == []
    with pytest.raises(AgentError, match="not installed"):
        images.require_installed(tmp_path, image.image_id)
    images.write_entry(tmp_path, image.image_id, "boot\n")
    assert images.installed(tmp_path) == [image.image_id]
    assert images.read_version(tmp_path, image.image_id) == "1.0"
    listing = (tmp_path / "images" / image.image_id / "list").read_bytes()
    assert hashlib.sha256(listing).hexdigest() == image.image_id


def test_writing_again_keeps_a_good_entry_and_replaces_a_broken_image(tmp_path, make_image):
    image = make_image(base="b")
    put(tmp_path, image)
    images.write_image(tmp_path, image)
    assert images.installed(tmp_path) == [image.image_id]
    (tmp_path / "images" / image.image_id / "list.sig").write_bytes(b"")
    images.write_image(tmp_path, image)
    assert images.is_written(tmp_path, image)
    assert images.installed(tmp_path) == [image.image_id], (
        "it may be what boots: its entry must not vanish for a moment"
    )


def test_collection_keeps_what_is_shared_and_wanted(tmp_path, make_image):
    old, kept, new = (
        make_image(base="b", geyser="1"),
        make_image(base="b", geyser="2"),
        make_image(base="b", geyser="3"),
    )
    put(tmp_path, old)
    put(tmp_path, kept)
    partial = tmp_path / "layers" / f".{new.contents.layers[1].sha256}.part"
    stale = tmp_path / "layers" / f".{'0' * 64}.part"
    partial.write_bytes(b"half")
    stale.write_bytes(b"half")
    gone = images.collect(tmp_path, {kept.image_id}, [blob.sha256 for blob in new.contents.blobs])
    assert gone == [old.image_id]
    assert images.installed(tmp_path) == [kept.image_id]
    assert all((tmp_path / blob.path).exists() for blob in kept.contents.blobs)
    assert not (tmp_path / old.contents.layers[1].path).exists()
    assert partial.exists()
    assert not stale.exists()


def test_an_installed_image_is_read_back_whole(tmp_path, make_image):
    image = make_image(base="b")._replace(promotion={"payload": "x"})
    put(tmp_path, image)
    assert images.read_installed(tmp_path, image.image_id) == image
    assert images.listed(tmp_path) == [image.image_id]
    (tmp_path / "images" / image.image_id / "list").write_text(image.list_text.replace("quiet", "debug"))
    with pytest.raises(AgentError, match="was altered"):
        images.read_installed(tmp_path, image.image_id)
    (tmp_path / "images" / image.image_id / "list").unlink()
    with pytest.raises(AgentError, match="cannot be read"):
        images.read_installed(tmp_path, image.image_id)
