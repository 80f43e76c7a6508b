"""An image is verified before anything of it is used; each fault has its own error."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bake.image import sign
from flash.run import prepare
from flash.trust import load_image, verify_blobs
from qtrade.errors import NotFound, TrustError
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE, SigningKey, ensure_key
from qtrade.store import LocalStore, PublishedImage
from tests.fakes.examples import make_image, make_settings
from tests.fakes.projects import add_blobs, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

BLOBS = ("base", "app", "kernel", "initrd", "installer")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
def key(settings) -> SigningKey:
    return ensure_key(settings.keys_dir, "build")


@pytest.fixture
def store(settings) -> LocalStore:
    return LocalStore(settings.store)


def publish(store: LocalStore, image: Image, published: PublishedImage) -> Path:
    """Publish what was signed, with its blobs, and return the version's document."""
    add_blobs(store, image, store.root)
    store.publish(image, published)
    return store.root / "versions/demo/0.1.0.json"


def change(path: Path, **fields: Any) -> None:
    """Replace fields of a version's document."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_good_image_is_loaded_with_the_texts_that_were_verified(store, key) -> None:
    image = make_image()
    published = sign(image, key)
    publish(store, image, published)
    loaded = load_image(store, "demo", "0.1.0", (key.public,))
    assert (loaded.image, loaded.image_text, loaded.list_text, loaded.list_sig) == (
        image,
        published.image_text,
        published.list_text,
        published.list_sig,
    )
    verify_blobs(store, image)


def unsigned(path: Path) -> None:
    change(path, envelope={**json.loads(path.read_text())["envelope"], "signatures": []})


def without_envelope(path: Path) -> None:
    fields = json.loads(path.read_text())
    del fields["envelope"]
    path.write_text(json.dumps(fields))


def alter_image_json(path: Path) -> None:
    change(path, image=json.loads(path.read_text())["image"].replace('"standin":true', '"standin":false'))


def alter_list(path: Path) -> None:
    change(path, list=json.loads(path.read_text())["list"].replace("quiet", "init=/bin/sh"))


def alter_list_signature(path: Path) -> None:
    change(path, list_sig=base64.b64encode(bytes(64)).decode())


def cut_list_signature(path: Path) -> None:
    change(path, list_sig="")


def garble_document(path: Path) -> None:
    path.write_bytes(b"\xff")


def cut_document(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


FAULTS = [
    (unsigned, "no trusted key signed this"),
    (without_envelope, "is damaged in the store"),
    (alter_image_json, "image.json was altered"),
    (alter_list, "list was altered"),
    (alter_list_signature, "no trusted key signed the list"),
    (cut_list_signature, "no trusted key signed the list"),
    (garble_document, "is damaged in the store"),
    (cut_document, "is damaged in the store"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_of_the_documents_is_refused_by_its_name(store, key, fault, message) -> None:
    fault(publish(store, make_image(), sign(make_image(), key)))
    with pytest.raises(TrustError, match=message) as caught:
        load_image(store, "demo", "0.1.0", (key.public,))
    assert caught.value.exit_code == 6
    assert caught.value.resolution


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_is_found_before_anything_else_is_looked_at(settings, store, key, fault, message) -> None:
    # The host's address answers nothing and its config is wrong: neither is reached.
    write_project(settings, host={"config": {"ghost": 1}, "secrets": {"ghost": "env:NOT_SET"}})
    fault(publish(store, make_image(), sign(make_image(), key)))
    reporter = RecordingReporter()
    with pytest.raises(TrustError, match=message):
        prepare(settings, "rpc-1", "0.1.0", reporter)
    assert (reporter.lines, reporter.steps) == ([], [])
    assert not (settings.state_dir / "flashes").exists()


def test_an_image_that_another_key_signed_is_refused(store, key, tmp_path) -> None:
    stranger = ensure_key(tmp_path / "stranger", "build")
    publish(store, make_image(), sign(make_image(), stranger))
    with pytest.raises(TrustError, match="no trusted key signed this"):
        load_image(store, "demo", "0.1.0", (key.public,))
    assert load_image(store, "demo", "0.1.0", (key.public, stranger.public)).image == make_image()


def test_a_list_signed_by_a_stranger_is_refused_though_the_rest_is_ours(store, key, tmp_path) -> None:
    stranger = ensure_key(tmp_path / "stranger", "build")
    image = make_image()
    publish(store, image, replace(sign(image, key), list_sig=sign(image, stranger).list_sig))
    with pytest.raises(TrustError, match="no trusted key signed the list"):
        load_image(store, "demo", "0.1.0", (key.public,))


@pytest.mark.parametrize("claims_the_id", [False, True])
def test_documents_of_two_images_are_refused_though_both_are_signed(store, key, claims_the_id) -> None:
    image, other = make_image(), make_image(cmdline="debug")
    if claims_the_id:
        other = other.model_copy(update={"id": image.id})
    digests = {"list": image.id, "image.json": hashlib.sha256(other.to_json().encode()).hexdigest()}
    subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]
    envelope = key.envelope(STATEMENT_TYPE, {"subject": subject})
    publish(store, image, replace(sign(image, key), image_text=other.to_json(), envelope=envelope))
    with pytest.raises(TrustError, match=r"image\.json and list are of different images"):
        load_image(store, "demo", "0.1.0", (key.public,))


def test_a_version_under_another_name_is_refused(store, key) -> None:
    path = publish(store, make_image(), sign(make_image(), key))
    path.rename(path.with_name("0.2.0.json"))
    with pytest.raises(TrustError, match="of different images"):
        load_image(store, "demo", "0.2.0", (key.public,))


def truncate(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")


def alter(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("name", BLOBS)
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (truncate, TrustError, r"{} is truncated: \d+ of \d+ bytes"),
        (lengthen, TrustError, "{} is too long"),
        (alter, TrustError, "{} was altered"),
        (Path.unlink, NotFound, "the store has no blob"),
    ],
    ids=["truncated", "too long", "altered", "missing"],
)
def test_a_fault_of_a_blob_is_refused_by_its_name(store, key, name, fault, error, message) -> None:
    image = make_image()
    publish(store, image, sign(image, key))
    digest = dict(
        zip(
            BLOBS,
            (
                *(layer.digest for layer in image.layers),
                image.kernel.digest,
                image.initrd.digest,
                image.installer.digest,
            ),
            strict=True,
        )
    )[name]
    fault(store.root / "blobs" / digest)
    what = f"layer {name}" if name in ("base", "app") else name
    with pytest.raises(error, match=message.format(what)) as caught:
        verify_blobs(store, image)
    assert digest in caught.value.render()
    assert caught.value.resolution
