"""Releases on record in the project."""

import json

import pytest

from bake.release import record_release
from qtrade.errors import BadInput, ConflictError
from tests.fakes.examples import make_image

pytestmark = pytest.mark.unit


def test_a_release_says_what_the_version_is_made_of(tmp_path) -> None:
    image = make_image()
    path = record_release(tmp_path, image)
    assert path == tmp_path / "manifests/releases/demo/0.1.0.json"
    text = path.read_text()
    document = json.loads(text)
    assert document == {
        "schema_version": 1,
        "name": "demo",
        "version": "0.1.0",
        "id": image.id,
        "sequence": 1,
        "layers": {layer.role: layer.digest for layer in image.layers},
        "kernel": image.kernel.digest,
        "initrd": image.initrd.digest,
        "installer": image.installer.digest,
        "components": [component.model_dump() for component in image.components],
    }
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def test_releases_are_counted_for_each_recipe(tmp_path) -> None:
    found = [
        json.loads(record_release(tmp_path, make_image(**changes)).read_text())["sequence"]
        for changes in ({}, {"version": "0.2.0"}, {"name": "other"}, {"version": "0.1.9"})
    ]
    assert found == [1, 2, 1, 3]


def test_the_same_release_again_changes_nothing(tmp_path) -> None:
    path = record_release(tmp_path, make_image())
    record_release(tmp_path, make_image(version="0.2.0"))
    before = path.read_bytes()
    assert record_release(tmp_path, make_image()) == path
    assert path.read_bytes() == before


def test_another_image_under_a_recorded_version_is_a_conflict(tmp_path) -> None:
    path = record_release(tmp_path, make_image())
    before = path.read_bytes()
    with pytest.raises(ConflictError, match="records another id") as caught:
        record_release(tmp_path, make_image(cmdline="debug"))
    assert make_image().id in caught.value.details
    assert path.read_bytes() == before


def test_a_record_that_cannot_be_read_is_named(tmp_path) -> None:
    folder = tmp_path / "manifests/releases/demo"
    folder.mkdir(parents=True)
    (folder / "0.0.9.json").write_text('{"schema_version": 1}')
    with pytest.raises(BadInput, match=r"0\.0\.9\.json"):
        record_release(tmp_path, make_image())
