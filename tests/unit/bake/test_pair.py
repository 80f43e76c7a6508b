"""The pair gate: which plugin a validator may load, by what recipe, provenance and version.yml say."""

import hashlib
import json
from typing import Any

import pytest

from bake.components.builder import PROVENANCE
from bake.lock.cache import cached_path
from bake.lock.document import Lock, LockedBuild
from bake.pair import Release, check_built_pair, check_pair, parse_tag
from bake.run import load_recipe
from qtrade.errors import Refused
from qtrade.manifest import Recipe
from qtrade.settings import Settings, load_settings
from qtrade.store import LocalStore
from tests.fakes.examples import make_recipe, make_settings, sha

pytestmark = pytest.mark.unit

RUSTC = "1.96.1"
BUILD = {"packages": ["rustup"], "command": "make", "output": "out", "versions": ["rustc --version"]}


def make(plugin: str = "15.1.2+solana.4.2.0", validator: str = "4.2.1", **changes: Any) -> Recipe:
    """Return a recipe with this pair; `changes` are fields of components by name, or `layers`."""
    layers = [{"role": "agave", "components": ["agave"]}, {"role": "geyser", "components": ["geyser"]}]
    parts: dict[str, Any] = {
        "agave": {"kind": "source", "path": "agave", "version": validator, "rustc": RUSTC},
        "geyser": {"kind": "github", "repository": "a/b", "asset": "x.so", "version": plugin, "rustc": RUSTC},
    }
    parts = {name: {**fields, **changes.get(name, {})} for name, fields in parts.items()}
    return make_recipe(components=parts, layers=changes.get("layers", layers))


@pytest.mark.parametrize(
    ("tag", "version", "solana", "early", "rust"),
    [
        ("v15.1.2+solana.4.2.0", "15.1.2", (4, 2, 0), "", ""),
        ("v15.0.0-rc3+solana.4.2.0.rc.0", "15.0.0-rc3", (4, 2, 0), "rc.0", ""),
        ("v13.0.0+solana.4.0.0-rc.0+rust-1.93", "13.0.0", (4, 0, 0), "rc.0", "1.93"),
        ("v12.3.0+solana.3.1.14", "12.3.0", (3, 1, 14), "", ""),
    ],
)
def test_tags_of_upstream_are_read(tag: str, version: str, solana: tuple[int, int, int], early: str, rust: str) -> None:
    found = parse_tag(tag)
    assert (found.version, found.solana, found.rust) == (version, Release(solana, early), rust)


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("v15.1.2+solaan.4.2.0", "mistyped"),
        ("15.1.2+solana.4.2.0", "does not begin with v"),
        ("v12.2.0+solana.3.1.10-triton-ext", "rpcpool's fork"),
        ("v15.1.2", "does not say"),
        ("v15.1.2+solana.4.2", "form of a release"),
        ("v15.1.2+solana.4.2.0 ", "form of a release"),
        ("v15.1.2+solana.4.2.0.beta", "form of a release"),
    ],
)
def test_other_tags_are_refused_with_the_reason(tag: str, why: str) -> None:
    with pytest.raises(Refused, match="no tag to take a plugin from") as caught:
        parse_tag(tag)
    assert why in caught.value.details
    assert "vX.Y.Z+solana.A.B.C" in caught.value.resolution


@pytest.mark.parametrize(
    ("plugin", "validator", "is_exact"),
    [
        ("15.1.2+solana.4.2.0", "4.2.0", True),
        ("15.1.2+solana.4.2.0", "4.2.1", False),
        ("15.1.2+solana.4.2.0", "4.2.1-jito", False),
        ("15.0.0-rc3+solana.4.2.0.rc.0", "4.2.0-rc.0", True),
    ],
)
def test_pairs_that_fit(plugin: str, validator: str, *, is_exact: bool) -> None:
    found = check_pair(make(plugin, validator))
    assert found is not None
    assert found.is_exact is is_exact


@pytest.mark.parametrize(
    ("plugin", "validator", "fault"),
    [
        ("15.1.2+solana.4.2.0", "4.3.0", "another minor version"),
        ("15.1.2+solana.4.2.0", "4.1.9", "another minor version"),
        ("15.1.2+solana.4.2.0", "3.2.0", "another minor version"),
        ("15.2.1+solana.4.2.2", "4.2.1", "newer than the validator"),
        ("15.0.0-rc3+solana.4.2.0.rc.0", "4.2.0", "fits itself only"),
        ("15.1.2+solana.4.2.0", "4.2.0-rc.0", "fits itself only"),
    ],
)
def test_pairs_of_other_versions_are_refused(plugin: str, validator: str, fault: str) -> None:
    with pytest.raises(Refused, match="do not fit") as caught:
        check_pair(make(plugin, validator))
    error = caught.value
    assert fault in error.details
    assert plugin.partition("+")[0] in error.details
    assert validator in error.details
    assert f"+solana.{validator}" in error.resolution


def test_another_rustc_is_refused_and_both_are_named() -> None:
    with pytest.raises(Refused, match="do not fit") as caught:
        check_pair(make(geyser={"rustc": "1.95.0"}))
    assert "the plugin is by rustc 1.95.0, the validator by rustc 1.96.1" in caught.value.details


def test_a_rust_in_the_tag_has_to_be_the_declared_one() -> None:
    assert check_pair(make("13.0.0+solana.4.2.0+rust-1.96"))
    with pytest.raises(Refused) as caught:
        check_pair(make("13.0.0+solana.4.2.0+rust-1.9"))
    assert "names Rust 1.9, components.geyser.rustc says 1.96.1" in caught.value.details


@pytest.mark.parametrize("name", ["agave", "geyser"])
def test_a_side_that_names_no_rustc_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=f"component {name} .* does not say which rustc"):
        check_pair(make(**{name: {"rustc": None}}))


def test_a_validator_of_no_release_is_refused() -> None:
    with pytest.raises(Refused, match="no release of a validator"):
        check_pair(make(validator="master"))


def test_the_layer_has_to_be_given_the_version_of_the_component() -> None:
    layers = [
        {"role": "agave", "components": ["agave"]},
        {"role": "geyser", "components": ["geyser"], "vars": {"geyser_version": "15.0.0+solana.4.2.0"}},
    ]
    with pytest.raises(Refused) as caught:
        check_pair(make(layers=layers))
    assert (
        "geyser_version is 15.0.0+solana.4.2.0, components.geyser.version is 15.1.2+solana.4.2.0"
        in caught.value.details
    )


def test_the_tag_of_a_git_source_counts() -> None:
    git = {"url": "https://git.example.org/x", "tag": "{version}"}
    source = {"kind": "source", "repository": None, "asset": None, "git": git, "build": BUILD}
    fields = {name: value for name, value in source.items() if value is not None}
    recipe = make()
    geyser = {"version": "15.1.2+solana.4.2.0", "rustc": RUSTC, **fields}
    whole = {**recipe.model_dump(mode="json", exclude_none=True), "lock": "auto"}
    whole["components"]["geyser"] = geyser
    with pytest.raises(Refused, match="no tag"):
        check_pair(Recipe.model_validate(whole))
    geyser["git"] = {**git, "tag": "v{version}"}
    assert check_pair(Recipe.model_validate(whole))


@pytest.mark.parametrize("left_out", ["agave", "geyser"])
def test_a_recipe_without_both_has_no_pair(left_out: str) -> None:
    layers = [{"role": name, "components": [name]} for name in ("agave", "geyser") if name != left_out]
    assert check_pair(make(layers=layers, geyser={"version": "15.1.2"})) is None


@pytest.mark.parametrize("name", ["lab", "production"])
def test_the_recipes_of_the_project_pass(name: str) -> None:
    found = check_pair(load_recipe(load_settings(), name))
    assert found is not None
    assert found.plugin_rustc == found.validator_rustc


# What was built.


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    (settings.project / "agave").mkdir()
    return settings


def lock_of(**components: LockedBuild) -> Lock:
    return Lock(recipe="demo", suite="trixie", wants={}, components=components)


def test_version_yml_of_a_folder_has_to_agree(settings: Settings) -> None:
    store = LocalStore(settings.store)
    check_built_pair(settings, store, make(), lock_of())
    document = settings.project / "agave/version.yml"
    document.write_text(f"channel: v4.2.1\nrustc: {RUSTC}\n")
    check_built_pair(settings, store, make(), lock_of())
    document.write_text("channel: v4.2.1\nrustc: 1.95.0\n")
    with pytest.raises(Refused, match=r"agave 4.2.1 was built by rustc 1.95.0, the recipe says 1.96.1"):
        check_built_pair(settings, store, make(), lock_of())


@pytest.mark.parametrize(
    ("versions", "match"),
    [
        (f"$ rustc +{RUSTC} --version\nrustc {RUSTC} (hash 2026-06-01)\ncargo 1.96.1\n", None),
        ("$ rustc --version\nrustc 1.95.0 (hash 2026-04-01)\n", r"built by rustc 1.95.0"),
        ("$ cargo --version\ncargo 1.96.1\n", "does not say which rustc"),
    ],
)
def test_provenance_of_a_build_has_to_agree(settings: Settings, versions: str, match: str | None) -> None:
    content = json.dumps({"versions": versions}).encode()
    digest = hashlib.sha256(content).hexdigest()
    path = cached_path(settings, digest, PROVENANCE)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    built = LockedBuild(version="4.2.1", key=sha("k"), file="x.tar", sha256=sha("x"), size=1, provenance=digest)
    recipe, store = make(agave={"build": BUILD}), LocalStore(settings.store)
    if match is None:
        check_built_pair(settings, store, recipe, lock_of(agave=built))
    else:
        with pytest.raises(Refused, match=match):
            check_built_pair(settings, store, recipe, lock_of(agave=built))
