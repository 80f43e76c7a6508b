"""What `qtrade flash` works out before it begins: version, door, and whether host, environment and image fit."""

import json

import pytest

from flash.run import flash, parse_door, parse_until, prepare
from flash.states import State
from qtrade.errors import HostError, QtradeError, Refused, TrustError, UsageError
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeDoor, Rig
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(make_settings(tmp_path))


def test_doors_and_states_are_read_from_words() -> None:
    assert (parse_door(None), parse_door("pxe")) == (None, Door.PXE)
    assert (parse_until(None), parse_until("ARMED")) == (State.COMMITTED, State.ARMED)
    with pytest.raises(UsageError, match="there is no door window"):
        parse_door("window")
    for name in ("SOMEWHEN", "FAILED_SAFE", "armed"):
        with pytest.raises(UsageError, match=f"no flash stops after {name}"):
            parse_until(name)


@pytest.fixture
def settings(rig) -> Settings:
    write_project(rig.settings)
    publish_image(rig.settings)
    return rig.settings


def test_preparing_takes_the_newest_version_and_touches_nothing(rig, settings) -> None:
    newer = publish_image(settings, version="0.10.0", cmdline="new")
    publish_image(settings, version="0.9.0", cmdline="old")
    context, plan = prepare(settings, "rpc-1", None, rig.reporter, door=Door.PXE)
    assert (plan.version, plan.image, plan.door) == ("0.10.0", newer.id, Door.PXE)
    assert context.journal.entries == ()
    assert not rig.folder.exists()


def test_in_place_is_closed_for_a_host_that_qtrade_never_flashed(rig, settings) -> None:
    _, plan = prepare(settings, "rpc-1", "0.1.0", rig.reporter)
    assert plan.door is Door.PXE
    assert rig.reporter.lines == ["door in_place is closed: the host runs no agent that answers"]


def test_a_host_without_an_open_door_is_an_error(rig, settings) -> None:
    write_project(settings, host={"doors": ["in_place"]})
    with pytest.raises(HostError, match="no door of rpc-1 is open"):
        prepare(settings, "rpc-1", "0.1.0", rig.reporter)


def test_an_open_flash_keeps_its_door(rig, settings) -> None:
    context, plan = prepare(settings, "rpc-1", "0.1.0", rig.reporter, door=Door.IN_PLACE)
    flash(context, plan, until=State.LEASED, steps=FakeDoor().steps())
    assert prepare(settings, "rpc-1", "0.1.0", rig.reporter)[1].door is Door.IN_PLACE


@pytest.mark.parametrize(
    ("host", "environment", "error"),
    [
        ({}, {"allow_standins": False}, Refused),
        ({"recipe": "other"}, {}, Refused),
        ({"config": {"ghost": 1}}, {}, QtradeError),
        ({"secrets": {"ghost": "env:X"}}, {}, QtradeError),
        ({"ssh": {}}, {}, QtradeError),
    ],
    ids=["stand-ins", "recipe", "config", "secrets", "ssh"],
)
def test_what_is_wrong_is_found_before_a_flash_begins(rig, settings, host, environment, error) -> None:
    write_project(settings, host=host, environment=environment)
    with pytest.raises(error):
        prepare(settings, "rpc-1", None if "recipe" in host else "0.1.0", rig.reporter)
    assert not rig.folder.exists()


def test_an_altered_image_is_refused_before_a_flash_begins(rig, settings) -> None:
    path = settings.store / "versions/demo/0.1.0.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "list": fields["list"] + "\n"}))
    with pytest.raises(TrustError):
        prepare(settings, "rpc-1", "0.1.0", rig.reporter)
    assert json.loads(fields["image"])["version"] == "0.1.0"
    assert not rig.folder.exists()
