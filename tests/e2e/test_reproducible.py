"""Two bakes of one version, each from nothing but the cached downloads: the same bytes."""

import json
import shutil

import pytest

from qtrade.settings import Settings
from qtrade.store import LocalStore
from tests.e2e.conftest import bake

pytestmark = pytest.mark.e2e


def test_two_bakes_give_the_same_blobs_and_document(settings: Settings, image_010: str) -> None:
    first = LocalStore(settings.store).read("lab", "0.1.0").image_text
    store = settings.state_dir / "second-store"
    shutil.rmtree(store, ignore_errors=True)
    result = bake("0.1.0", "--from-scratch", env={"QTRADE_STORE": str(store)})
    built = result["built"]
    assert isinstance(built, list)
    assert set(built) >= {"base", "initrd", "installer", "postgres", "qtrade_client"}, "not made from scratch"
    second = LocalStore(store).read("lab", "0.1.0").image_text
    differing = [name for name, (one, other) in _parts(first, second).items() if one != other]
    assert differing == []
    assert second == first
    shutil.rmtree(store)
    assert result["id"] == image_010


def _parts(first: str, second: str) -> dict[str, tuple[str, str]]:
    documents = [json.loads(text) for text in (first, second)]
    digests = [
        {
            **{layer["role"]: layer["digest"] for layer in document["layers"]},
            **{name: document[name]["digest"] for name in ("kernel", "initrd", "installer")},
        }
        for document in documents
    ]
    return {name: (digests[0][name], digests[1][name]) for name in digests[0]}
