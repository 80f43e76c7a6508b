"""What a recipe may say, and what stands on what."""

import pytest
from pydantic import ValidationError

from tests.fakes.examples import make_recipe, recipe_fields

pytestmark = pytest.mark.unit

APT = {
    "kind": "apt",
    "repository": "https://apt.example.org",
    "key": "keys/vendor.asc",
    "package": "datadog-agent",
    "version": "1:7.0-1",
}
URL = {"kind": "url", "url": "https://example.org/x.tar", "sha256": "0" * 64, "size": 1, "version": "1"}


def layers(*items: dict) -> dict:
    return recipe_fields(layers=list(items))


@pytest.mark.parametrize("needs", [["ghost"], ["app"], ["base", "top"]])
def test_needs_must_name_a_layer_before(needs) -> None:
    fields = layers({"role": "host"}, {"role": "app", "needs": needs}, {"role": "top"})
    with pytest.raises(ValidationError, match=rf"layer app needs {needs[-1]}, which no layer before it is"):
        make_recipe(**fields)


def test_a_component_must_be_in_the_recipe() -> None:
    with pytest.raises(ValidationError, match="layer host uses component ghost, which the recipe does not have"):
        make_recipe(**layers({"role": "host", "components": ["agent", "ghost"]}))


@pytest.mark.parametrize("role", ["host", "base"])
def test_a_role_stands_once(role) -> None:
    with pytest.raises(ValidationError, match=f"layer {role} stands twice"):
        make_recipe(**layers({"role": "host"}, {"role": role}))


def test_a_recipe_needs_a_layer() -> None:
    with pytest.raises(ValidationError, match="layers"):
        make_recipe(layers=[])


def test_an_apt_component_needs_the_fingerprint_of_its_key() -> None:
    with pytest.raises(ValidationError, match="fingerprint is required"):
        make_recipe(components={**recipe_fields()["components"], "dd": APT})


@pytest.mark.parametrize("extra", [{"standin": True}, {"fingerprint": "0123456789ABCDEF" * 2 + "01234567"}])
def test_an_apt_component_is_a_standin_or_has_a_fingerprint(extra) -> None:
    recipe = make_recipe(components={**recipe_fields()["components"], "dd": {**APT, **extra}})
    assert recipe.components["dd"].version == "1:7.0-1"


@pytest.mark.parametrize("change", [{"sha256": "0" * 63}, {"size": 0}, {"url": "ftp://example.org/x"}, {"sha512": ""}])
def test_a_download_needs_an_address_a_digest_and_a_size(change) -> None:
    make_recipe(components={**recipe_fields()["components"], "x": URL})
    with pytest.raises(ValidationError):
        make_recipe(components={**recipe_fields()["components"], "x": {**URL, **change}})


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("base", ()),
        ("host", ("base",)),
        ("app", ("base", "host")),
        ("tool", ("base", "host")),
        ("top", ("base", "host", "app")),
    ],
)
def test_ancestors_are_in_the_order_of_the_recipe_lowest_first(role, expected) -> None:
    assert make_recipe().ancestors(role) == expected


def test_ancestors_of_a_layer_with_two_needs_keep_the_order_of_the_recipe() -> None:
    recipe = make_recipe(
        **layers({"role": "b1"}, {"role": "a1"}, {"role": "z1", "needs": ["a1"]}, {"role": "q1", "needs": ["z1", "b1"]})
    )
    assert recipe.ancestors("q1") == ("base", "b1", "a1", "z1")


def test_a_layer_without_needs_still_stands_on_the_base() -> None:
    assert make_recipe(**layers({"role": "host", "needs": []})).ancestors("host") == ("base",)


@pytest.mark.parametrize("version", ["", "-1", "a b", "1/2", "../x", "1\n"])
def test_versions_are_safe_as_names_of_folders(version) -> None:
    components = {**recipe_fields()["components"], "x": {"kind": "source", "path": "x", "version": version}}
    with pytest.raises(ValidationError):
        make_recipe(components=components)
