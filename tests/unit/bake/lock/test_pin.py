"""Pins: what `qtrade lock --pin` and `--set` write into a recipe, and what they refuse."""

import shutil
from dataclasses import replace

import pytest
import yaml

from bake.lock.command import Options, run
from bake.lock.pin import Pins, parse_pairs, pin
from qtrade.errors import BadInput, NotFound, QtradeError, Refused, UsageError
from qtrade.manifest import Recipe, load_manifest
from qtrade.settings import Settings, load_settings
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

PRODUCTION = "manifests/images/production.yaml"


@pytest.fixture
def settings(tmp_path) -> Settings:
    """This project's roles, with a production recipe of its own to write to."""
    own = load_settings()
    (tmp_path / "manifests/images").mkdir(parents=True)
    shutil.copy(own.project / PRODUCTION, tmp_path / PRODUCTION)
    for name in ("ansible", "packer", "flash"):
        (tmp_path / name).symlink_to(own.project / name)
    return replace(own, project=tmp_path, state_dir=tmp_path / "state", store=tmp_path / "store")


def lines_changed(before: str, after: str) -> dict[str, str]:
    """Return the changed lines, old to new; the files have the same number of lines."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    return {old.strip(): new.strip() for old, new in pairs if old != new}


def apply(settings: Settings, *pins: str, values: tuple[str, ...] = ()) -> tuple[Recipe, tuple[str, ...]]:
    path = settings.project / PRODUCTION
    chosen = Pins(parse_pairs("--pin", pins), parse_pairs("--set", values))
    return pin(settings, path, load_manifest(Recipe, path), chosen)


def test_a_component_its_release_and_the_layers_variable_follow_and_comments_stay(settings) -> None:
    path = settings.project / PRODUCTION
    before = path.read_text()
    recipe, again = apply(settings, "geyser=16.0.0+solana.4.3.0,agave=4.3.0", "rust=1.97.0")
    assert lines_changed(before, path.read_text()) == {
        'version: "4.2.1"': 'version: "4.3.0"',
        'version: "15.1.2+solana.4.2.0"': 'version: "16.0.0+solana.4.3.0"',
        'rustc: "1.96.1"': 'rustc: "1.97.0"',
        'vars: {geyser_version: "15.1.2+solana.4.2.0"}': 'vars: {geyser_version: "16.0.0+solana.4.3.0"}',
        'vars: {agave_version: "4.2.1", agave_port_range: "8000-8030"}': 'vars: {agave_version: "4.3.0", agave_port_range: "8000-8030"}',
    }
    versions = {name: (item.version, item.rustc) for name, item in recipe.components.items()}
    assert versions["agave"] == ("4.3.0", "1.97.0")
    assert versions["geyser"] == ("16.0.0+solana.4.3.0", "1.97.0")
    assert versions["geyser-config-check"] == ("16.0.0+solana.4.3.0", None)
    assert again == ()


def test_a_deb_keeps_epoch_and_revision(settings) -> None:
    recipe, _ = apply(settings, "datadog-agent=7.79.0,otelcol-contrib=0.122.0")
    assert recipe.components["datadog-agent"].version == "1:7.79.0-1"
    assert recipe.layer("datadog").vars == {"datadog_agent_version": "7.79.0", "datadog_collector_version": "0.122.0"}
    assert apply(settings, "datadog-agent=1:7.80.0-2")[0].components["datadog-agent"].version == "1:7.80.0-2"


def test_a_package_is_held_in_the_recipe_and_looked_up_once(settings) -> None:
    recipe, again = apply(settings, "postgresql-17=17.13", "linux-image-amd64=6.12.57-1")
    assert recipe.pins == {"postgresql-17": "17.13", "linux-image-amd64": "6.12.57-1"}
    assert recipe.layer("postgres").vars["postgres_version"] == "17.13"
    assert again == ("postgresql-17", "linux-image-amd64")
    assert apply(settings, "postgresql-17=17.13")[1] == ()


def test_values_are_those_that_the_roles_declare(settings) -> None:
    values = (
        "agave_transaction_history=on,agave_profile=validator",
        "bare_metal_swappiness=10",
        "postgres_backup=false",
    )
    recipe, _ = apply(settings, values=values)
    assert recipe.layer("agave").toggles == {"agave_transaction_history": True}
    assert recipe.layer("agave").vars["agave_profile"] == "validator"
    assert recipe.layer("bare_metal").vars == {"bare_metal_swappiness": 10}
    assert recipe.layer("postgres").toggles == {"postgres_backup": False}


@pytest.mark.parametrize(
    ("pins", "values", "error", "told"),
    [
        (("rust=1.97.0",), (), UsageError, "rust is the toolchain of a component"),
        (("nginx=1.0",), (), NotFound, "nginx: neither a component nor a package"),
        (("agave",), (), BadInput, "--pin 'agave' is not NAME=VALUE"),
        (("agave=4.2.1,agave=4.2.2",), (), BadInput, "--pin names agave twice"),
        (("agave=$(id)",), (), BadInput, "components.agave.source.version"),
        (("agave=4.2.1\n",), (), BadInput, "components.agave.source.version"),
        ((), ("agave_profile=root",), BadInput, "agave_profile cannot be 'root'"),
        ((), ("agave_extra_flags=--x",), BadInput, "no toggle"),
        ((), ("agave_nothing=true",), NotFound, "role agave has no variable agave_nothing"),
        ((), ("nginx_on=true",), NotFound, "nginx_on belongs to no role"),
    ],
)
def test_what_cannot_be_pinned_is_refused_and_changes_nothing(settings, pins, values, error, told) -> None:
    before = (settings.project / PRODUCTION).read_text()
    with pytest.raises(error) as raised:
        apply(settings, *pins, values=values)
    assert told in raised.value.render()
    assert (settings.project / PRODUCTION).read_text() == before


def test_a_pair_that_does_not_fit_leaves_the_recipe_as_it_was(settings) -> None:
    before = (settings.project / PRODUCTION).read_text()
    with pytest.raises(Refused) as raised:
        run(
            settings,
            "production",
            Options(pins=Pins({"geyser": "16.0.0+solana.4.3.0", "rust": "1.97.0"})),
            RecordingReporter(),
        )
    assert "the plugin is for Agave 4.3.0, the validator is 4.2.1: another minor version" in raised.value.details
    assert "the plugin is by rustc 1.97.0, the validator by rustc 1.96.1" in raised.value.details
    assert (settings.project / PRODUCTION).read_text() == before
    assert not (settings.project / "manifests/images/production.lock.json").exists()


@pytest.mark.parametrize("other", ["fetch", "check"])
def test_pins_do_not_go_with_what_changes_nothing(settings, other) -> None:
    with pytest.raises(QtradeError) as raised:
        run(settings, "production", Options(pins=Pins({"agave": "4.2.2"}), **{other: True}), RecordingReporter())
    assert raised.value.brief == f"--pin and --set change the recipe, --{other} does not"


def test_a_recipe_with_pins_names_debian_packages_only(settings) -> None:
    document = yaml.safe_load((settings.project / PRODUCTION).read_text())
    with pytest.raises(ValueError, match="pins"):
        Recipe.model_validate({**document, "pins": {"UPPER": "1"}})
