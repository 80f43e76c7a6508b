"""The image list and the image id."""

import hashlib
import json

import pytest
from pydantic import ValidationError

from qtrade.manifest import Image, RoleInputs
from qtrade.manifest.image import ImageBlob, image_id
from tests.fakes.examples import make_image, sha

pytestmark = pytest.mark.unit


def test_the_list_is_this_text() -> None:
    base, app = make_image().layers
    image = make_image(
        layers=(
            base.model_copy(update={"digest": "a" * 64, "size": 11, "verity": "1" * 64}),
            app.model_copy(update={"digest": "b" * 64, "size": 22, "verity": "2" * 64}),
        ),
        kernel=ImageBlob(digest="c" * 64, size=33),
        initrd=ImageBlob(digest="d" * 64, size=44),
        cmdline="console=ttyS0 quiet",
    )
    assert image.list_text() == (
        "qtrade-image 1\n"
        f"layer {'a' * 64} 11 {'1' * 64} base\n"
        f"layer {'b' * 64} 22 {'2' * 64} app\n"
        f"kernel {'c' * 64} 33\n"
        f"initrd {'d' * 64} 44\n"
        "cmdline console=ttyS0 quiet\n"
    )


def test_the_id_is_the_sha256_of_the_list() -> None:
    image = make_image()
    assert image.id == hashlib.sha256(image.list_text().encode()).hexdigest() == image_id(image.list_text())


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.2.0"},
        {"name": "other"},
        {"inputs": {"app": RoleInputs.model_validate({"secrets": [{"name": "token"}]})}},
        {"components": ()},
        {"epoch": 1},
        {"installer": ImageBlob(digest="e" * 64, size=1)},
        {"kernel_release": "6.13"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_id_does_not_depend_on_names_and_inputs(change) -> None:
    assert make_image(**change).id == make_image().id


@pytest.mark.parametrize(
    "change",
    [
        {"layers": make_image().layers[:1]},
        {"layers": make_image().layers[::-1]},
        {"layers": (make_image().layers[0].model_copy(update={"digest": sha("x")}), make_image().layers[1])},
        {"layers": (make_image().layers[0].model_copy(update={"size": 1}), make_image().layers[1])},
        {"layers": (make_image().layers[0].model_copy(update={"verity": sha("x")}), make_image().layers[1])},
        {"kernel": ImageBlob(digest="e" * 64, size=1)},
        {"initrd": ImageBlob(digest="e" * 64, size=1)},
        {"cmdline": "debug"},
    ],
)
def test_the_id_depends_on_layers_kernel_initrd_and_command_line(change) -> None:
    assert make_image(**change).id != make_image().id


def test_every_field_of_an_image_is_known_to_these_tests() -> None:
    in_id = {"layers", "kernel", "initrd", "cmdline"}
    not_in_id = {"version", "name", "inputs", "components", "epoch", "installer", "kernel_release"}
    assert set(Image.model_fields) == {*in_id, *not_in_id, "schema_version", "id"}


def test_the_document_is_canonical_and_comes_back_equal() -> None:
    image = make_image()
    text = image.to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert Image.model_validate_json(text) == image


def test_blobs_are_what_a_host_keeps() -> None:
    image = make_image()
    kept = {*(layer.digest for layer in image.layers), image.kernel.digest, image.initrd.digest}
    assert set(image.blobs()) == kept
    assert image.installer.digest not in image.blobs()


def test_one_standin_makes_the_image_one() -> None:
    image = make_image()
    part = image.components[0]
    assert image.has_standins
    assert not make_image(components=(part.model_copy(update={"standin": False}),)).has_standins


def test_an_image_of_another_schema_is_refused() -> None:
    fields = json.loads(make_image().to_json())
    with pytest.raises(ValidationError):
        Image.model_validate({**fields, "schema_version": 2})
