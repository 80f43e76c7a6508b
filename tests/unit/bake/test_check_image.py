"""When the layers of an image are checked together, and when an earlier pass holds."""

from pathlib import Path

import pytest

from bake.check_image import check_image, image_check_key
from qtrade.settings import Settings
from qtrade.store import BlobRecord, LocalStore
from tests.fakes.examples import make_recipe, make_settings, sha
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

RECIPE = make_recipe()
ROLES = ("base", "host", "app", "tool", "top")
DONE = {name: BlobRecord(sha(name), name, sha(f"bytes of {name}")) for name in ROLES}


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    (settings.project / "ansible/specs.ini").write_text("[pytest]\n")
    write_spec(settings, "app", "layer")
    return settings


def write_spec(settings: Settings, role: str, mark: str) -> Path:
    path = settings.project / "ansible/roles" / role / f"specs/test_{role}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"@pytest.mark.{mark}\ndef test_one(host): ...\n")
    return path


def test_roles_without_such_specs_need_no_check(settings: Settings) -> None:
    assert check_image(settings, LocalStore(settings.store), RECIPE, {}, RecordingReporter()) == 0


def test_a_pass_is_remembered(settings: Settings) -> None:
    write_spec(settings, "tool", "image")
    store = LocalStore(settings.store)
    key = image_check_key(settings, RECIPE, ("tool",), DONE)
    store.add_record(BlobRecord(key, "check image", facts={"ran": "7"}))
    assert check_image(settings, store, RECIPE, DONE, RecordingReporter()) == 7


@pytest.mark.parametrize("role", ROLES)
def test_another_layer_is_another_check(settings: Settings, role: str) -> None:
    write_spec(settings, "tool", "image")
    other = {**DONE, role: BlobRecord(sha(role), role, sha("other bytes"))}
    assert image_check_key(settings, RECIPE, ("tool",), other) != image_check_key(settings, RECIPE, ("tool",), DONE)


def test_another_spec_is_another_check(settings: Settings) -> None:
    spec = write_spec(settings, "tool", "image")
    before = image_check_key(settings, RECIPE, ("tool",), DONE)
    spec.write_text(f"{spec.read_text()}\n# more\n")
    assert image_check_key(settings, RECIPE, ("tool",), DONE) != before
