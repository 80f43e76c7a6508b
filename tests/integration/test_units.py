"""How exposed the services of the lab image are, against manifests/units.yaml, and whether systemd understands them."""

from pathlib import Path

import pytest

from bake.chamber import Chamber, Command, run_in_chamber
from bake.exposure import StackedLayer, UnitExposure, measure_layers, render_units, require_within
from qtrade.errors import Refused
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings, load_settings
from tests.fakes.lab_layers import BakedRecipe, bake_recipe
from tests.fakes.tiny import make_tiny_project

pytestmark = pytest.mark.integration

OURS = {
    "agave-validator.service",
    "otelcol-contrib.service",
    "qtrade-client.service",
    "qtrade-firewall.service",
}


@pytest.fixture(scope="module")
def lab() -> BakedRecipe:
    return bake_recipe(load_settings(), "lab")


@pytest.fixture(scope="module")
def stack(lab: BakedRecipe) -> tuple[StackedLayer, ...]:
    names = (BASE, *(layer.role for layer in lab.recipe.layers))
    return tuple(
        StackedLayer(
            name,
            lab.store.open_blob(lab.records[name].digest),
            lab.store.paths(lab.records[name]) if name != BASE else (),
        )
        for name in names
    )


@pytest.fixture(scope="module")
def units(lab: BakedRecipe, stack: tuple[StackedLayer, ...]) -> tuple[UnitExposure, ...]:
    return measure_layers(lab.settings, stack)


def with_policy(settings: Settings, folder: Path, change: tuple[str, str]) -> Settings:
    """Return settings of a project that has nothing but the policy, changed."""
    text = (settings.project / "manifests/units.yaml").read_text()
    assert change[0] in text
    (folder / "manifests").mkdir()
    (folder / "manifests/units.yaml").write_text(text.replace(*change, 1))
    return Settings(project=folder, state_dir=settings.state_dir, store=settings.store)


def test_no_service_is_more_exposed_than_allowed(units: tuple[UnitExposure, ...]) -> None:
    print(render_units(units))
    assert {unit.unit for unit in units} >= OURS
    require_within(units)


def test_a_service_that_opens_up_is_named(lab: BakedRecipe, stack: tuple[StackedLayer, ...], tmp_path: Path) -> None:
    settings = with_policy(lab.settings, tmp_path, ("threshold: 1.4", "threshold: 1.3"))
    with pytest.raises(Refused, match="1 unit") as caught:
        require_within(measure_layers(settings, stack))
    assert caught.value.details == "  qtrade_client: qtrade-client.service: 1.4, at most 1.3"


def test_a_service_without_a_line_is_named(lab: BakedRecipe, stack: tuple[StackedLayer, ...], tmp_path: Path) -> None:
    settings = with_policy(lab.settings, tmp_path, ("unit: agave-validator.service", "unit: another.service"))
    with pytest.raises(Refused, match="1 unit") as caught:
        require_within(measure_layers(settings, stack))
    assert caught.value.details.startswith("  agave: agave-validator.service: ")
    assert caught.value.details.endswith(", and no line")


def verify(lab: BakedRecipe, names: list[str], folder: Path, plant: str = "") -> list[str]:
    """Return what `systemd-analyze verify` of the image's own systemd says about units; `plant` is one more line for the first."""
    blobs = tuple(lab.store.open_blob(record.digest) for record in lab.records.values())
    root = folder / "root"
    add = 'mkdir "$1/etc/systemd/system/$2.d"; printf "%s\\n" "$3" > "$1/etc/systemd/system/$2.d/plant.conf"'
    commands = (
        Command(("sh", "-c", add, "sh", str(root), names[0], plant)),
        Command(("chroot", str(root), "systemd-analyze", "verify", "--man=no", *names)),
    )
    done = run_in_chamber(Chamber(folder, blobs, commands), env={}, timeout_s=120)
    return [line for line in (done.stdout + done.stderr).splitlines() if any(name in line for name in names)]


def test_systemd_understands_every_line_of_our_units(
    lab: BakedRecipe, units: tuple[UnitExposure, ...], tmp_path: Path
) -> None:
    names = sorted(unit.unit for unit in units if unit.unit in OURS or unit.unit.startswith("qtrade-"))
    assert verify(lab, names, tmp_path / "clean") == []
    (said,) = verify(lab, ["qtrade-client.service"], tmp_path / "planted", "[Service]\nMemoryMx=1G")
    assert "Unknown key 'MemoryMx'" in said


def test_the_command_shows_a_published_image_and_judges_it(tmp_path: Path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    unit = "[Service]\nExecStart=/bin/true\n"
    path = "/usr/lib/systemd/system/tiny.service"
    tiny.add_task("two", "ansible.builtin.copy", content=unit, dest=path, mode="0644")
    tiny.bake("1.0")
    policy = tiny.settings.project / "manifests/units.yaml"
    policy.write_text("schema_version: 1\nunits: []\n")
    command = ("images", "units", "1.0", "--recipe", "tiny")
    refused = tiny.run(*command)
    assert refused.returncode == 7
    assert "two: tiny.service: 9." in refused.stderr
    policy.write_text("schema_version: 1\nunits: [{unit: tiny.service, threshold: 10, reason: it does nothing}]\n")
    (shown,) = tiny.qtrade(*command, "--json")["units"]
    assert (shown["role"], shown["unit"], shown["is_within"]) == ("two", "tiny.service", True)
    assert shown["costs"]["PrivateNetwork="] == 0.5
