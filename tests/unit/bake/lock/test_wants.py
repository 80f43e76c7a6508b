"""Which change of a recipe makes which part of its lock stale, and how that is said."""

from collections.abc import Callable
from typing import Any

import pytest

from bake.lock.check import check_lock, lock_path
from bake.lock.wants import read_wants, stale_parts
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from tests.fakes.examples import make_recipe, make_settings, recipe_fields, sha
from tests.fakes.locks import make_lock, write_lock_of

pytestmark = pytest.mark.unit

URL = {"kind": "url", "url": "https://example.org/x-{version}.tar.gz", "version": "1"}
BUILT = {
    "kind": "source",
    "path": "built",
    "version": "1",
    "build": {"packages": ["gcc"], "command": "make", "output": "x"},
}
APT = {"kind": "apt", "repository": "file:{state}/apt", "key": "k", "package": "p", "version": "1", "standin": True}
COMPONENTS = {**recipe_fields()["components"], "url": URL, "built": BUILT, "apt": APT}


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    for name in ("agent", "parts", "built"):
        (settings.project / name).mkdir()
        (settings.project / name / "main.c").write_text("1")
    return settings


def recipe(**changes: Any) -> Recipe:
    return make_recipe(**{"components": COMPONENTS, **changes})


def layers(role: str, **changes: Any) -> list[dict[str, Any]]:
    return [{**layer, **changes} if layer["role"] == role else layer for layer in recipe_fields()["layers"]]


def base(**changes: Any) -> dict[str, Any]:
    return {**recipe_fields()["base"], **changes}


def components(name: str, **changes: Any) -> dict[str, Any]:
    return {**COMPONENTS, name: {**COMPONENTS[name], **changes}}


CHANGES: dict[str, tuple[Callable[[], Recipe], set[str]]] = {
    "nothing": (recipe, set()),
    "vars": (lambda: recipe(layers=layers("app", vars={"app_port": 2})), set()),
    "cmdline": (lambda: recipe(cmdline="debug"), set()),
    "a folder's version": (lambda: recipe(components=components("agent", version="2")), set()),
    "standin": (lambda: recipe(components=components("url", standin=True)), set()),
    "suite": (lambda: recipe(base=base(suite="forky")), {"base"}),
    "kernel": (lambda: recipe(base=base(kernel="other")), {"base"}),
    "base packages": (lambda: recipe(base=base(packages=["udev", "jq"])), {"base"}),
    "layer packages": (lambda: recipe(layers=layers("host", packages=["jq"])), {"layer host"}),
    "first packages": (lambda: recipe(layers=layers("app", packages=["jq"])), {"layer app"}),
    "no packages": (lambda: recipe(layers=layers("host", packages=[])), {"layer host"}),
    "version": (lambda: recipe(components=components("url", version="2")), {"component url"}),
    "command": (
        lambda: recipe(components=components("built", build={**BUILT["build"], "command": "make all"})),
        {"component built"},
    ),
    "component gone": (lambda: recipe(components={**COMPONENTS, "url": COMPONENTS["agent"]}), {"component url"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_this_change_makes_these_parts_stale(settings, case) -> None:
    lock = make_lock(settings, recipe())
    make, expected = CHANGES[case]
    assert set(stale_parts(lock, read_wants(settings, make()))) == expected


def test_the_source_of_a_build_and_a_local_repository_count_by_content(settings) -> None:
    lock = make_lock(settings, recipe())
    (settings.project / "built/main.c").write_text("2")
    (settings.project / "agent/main.c").write_text("2")
    assert stale_parts(lock, read_wants(settings, recipe())) == ("component built",)
    index = settings.state_dir / "apt/dists/stable/main/binary-amd64/Packages"
    index.parent.mkdir(parents=True)
    index.write_text("Package: p")
    assert stale_parts(lock, read_wants(settings, recipe())) == ("component apt", "component built")


def test_another_collection_is_named_with_the_locked_version(settings) -> None:
    made = make_lock(settings, make_recipe())
    lock = write_lock_of(settings, make_recipe())
    path = lock_path(settings, make_recipe())
    path.write_text(path.read_text().replace(made.wants["collection community.general"], sha("another")))
    with pytest.raises(BadInput) as caught:
        check_lock(settings, make_recipe())
    version = lock.collections["community.general"].version
    assert f"collection community.general: locked {version}" in caught.value.details


def test_a_lock_that_fits_is_returned(settings) -> None:
    assert write_lock_of(settings, make_recipe()) == check_lock(settings, make_recipe())


def test_a_stale_lock_names_the_parts_and_the_cure(settings) -> None:
    write_lock_of(settings, make_recipe())
    changed = make_recipe(layers=[*layers("host", packages=[]), {"role": "more", "packages": ["jq"]}])
    with pytest.raises(BadInput, match="the lock of demo does not fit the recipe") as caught:
        check_lock(settings, changed)
    assert caught.value.details.splitlines() == [
        "  packages of host: gone from the recipe",
        "  packages of more: new in the recipe",
    ]
    assert "run `qtrade lock --recipe demo`" in caught.value.resolution


def test_a_recipe_without_a_lock_is_not_locked_yet(settings) -> None:
    with pytest.raises(NotFound, match="recipe demo is not locked yet") as caught:
        check_lock(settings, make_recipe())
    assert caught.value.resolution == "run `qtrade lock --recipe demo`"


def test_a_lock_made_by_bakes_is_in_the_state_directory(settings) -> None:
    assert lock_path(settings, make_recipe()) == settings.project / "manifests/images/demo.lock.json"
    assert lock_path(settings, make_recipe(lock="auto")) == settings.state_dir / "locks/demo.lock.json"
