"""Packages that the recipe pins: which version of the index is meant, and that a lock which looks up everything still holds them."""

import pytest

from bake.lock.packages import Archive
from bake.lock.update import Request, _Update
from bake.lock.wants import describe_stale, read_wants, stale_parts
from qtrade.errors import NotFound
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from qtrade.store import LocalStore
from tests.fakes.examples import make_settings, recipe_fields
from tests.fakes.locks import make_lock
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

INDEX = {
    "postgresql-17": ("17.12-0+deb13u1", "17.13-0+deb13u1", "17.13-0+deb13u2"),
    "ufw": ("0.36.2-9",),
    "bind9-host": ("1:9.20.18-1~deb13u1",),
}


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


def make_archive(settings: Settings, suite: str = "trixie") -> Archive:
    paragraphs = {(name, version, "amd64"): "" for name, versions in INDEX.items() for version in versions}
    return Archive(settings.state_dir, suite, paragraphs)


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [
        ("postgresql-17", "17.13", "17.13-0+deb13u2"),
        ("postgresql-17", "17.13-0+deb13u1", "17.13-0+deb13u1"),
        ("bind9-host", "9.20.18", "1:9.20.18-1~deb13u1"),
    ],
)
def test_a_pin_is_a_whole_version_or_upstreams(settings, name, wanted, found) -> None:
    assert make_archive(settings).find_version(name, wanted) == found


@pytest.mark.parametrize(("name", "wanted"), [("postgresql-17", "17.1"), ("ufw", "0.36"), ("nginx", "1.0")])
def test_a_version_that_the_index_does_not_have_is_an_error(settings, name, wanted) -> None:
    with pytest.raises(NotFound, match=f"trixie has no {name}={wanted}"):
        make_archive(settings).find_version(name, wanted)


def make_update(settings: Settings, pins: dict[str, str], *, everything: bool) -> _Update:
    recipe = Recipe.model_validate({**recipe_fields(), "components": {}, "pins": pins, "layers": [{"role": "app"}]})
    return _Update(settings, LocalStore(settings.store), recipe, Request(everything), RecordingReporter())


@pytest.mark.parametrize("everything", [True, False])
def test_what_is_pinned_holds_whatever_is_looked_up(settings, everything) -> None:
    archive = make_archive(settings)
    make_update(settings, {"postgresql-17": "17.12", "ufw": "0.36.2-9"}, everything=everything)._pin(archive, ())
    assert archive.pins == {"postgresql-17": "17.12-0+deb13u1", "ufw": "0.36.2-9"}


def test_another_suite_has_other_versions(settings) -> None:
    archive = make_archive(settings, "bookworm")
    make_update(settings, {"ufw": "0.36.2-9"}, everything=True)._pin(archive, ())
    assert archive.pins == {}


def test_a_changed_pin_makes_the_lock_stale_and_no_pins_leave_old_locks_as_they_are(settings) -> None:
    update = make_update(settings, {"ufw": "0.36.2-9"}, everything=False)
    plain = update.recipe.model_copy(update={"pins": {}})
    lock = make_lock(settings, plain)
    assert stale_parts(lock, read_wants(settings, plain)) == ()
    wants = read_wants(settings, update.recipe)
    assert stale_parts(lock, wants) == ("pins",)
    assert describe_stale(lock, wants, "pins") == "packages that hold a version (pins): new in the recipe"
