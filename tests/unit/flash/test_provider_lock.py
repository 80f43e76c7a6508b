"""The provider's lock, behind Latitude's API: off for the calls of a flash, and on again however that ends."""

from collections.abc import Iterator

import pytest

from flash import provider_lock
from flash.context import Evidence
from flash.doors import shared
from flash.drivers import PowerControl
from flash.drivers.connect import Surroundings, connect_provider
from flash.drivers.waiting import Waiting
from flash.journal import latest
from flash.run import abort, flash
from flash.states import State
from qtrade.errors import HostError, Refused
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host, make_settings
from tests.fakes.flash import FakeContext, FakeDoor, Rig
from tests.fakes.providers import FakeLatitude
from tests.fakes.providers.machine import SimulatedMachine

pytestmark = pytest.mark.unit


@pytest.fixture
def latitude() -> Iterator[FakeLatitude]:
    with FakeLatitude(SimulatedMachine(), transition_s=0.0) as made:
        made.is_locked = True
        yield made


@pytest.fixture
def rig(tmp_path, latitude, monkeypatch) -> Rig:
    """A host at Latitude, locked."""

    def connect(access, read_secret, *, folder=None, say=print):
        around = Surroundings(None, Waiting(sleep=lambda _: None, say=say), settle_s=0, requests_per_s=1000)
        return connect_provider(access, lambda _: latitude.token, around)

    monkeypatch.setattr("flash.access.driver_for", connect)
    made = Rig(make_settings(tmp_path))
    driver = {"kind": "latitude", "server_id": latitude.server_id, "token": "env:T", "url": latitude.url}
    made.host = make_host(driver=driver, doors=["in_place"])
    return made


def begin(rig: Rig, door: FakeDoor, **options) -> State:
    """Flash with the real LEASED, and a STAGING that cycles the host's power."""

    def staging(context: FakeContext, deadline_s: float) -> Evidence:
        with context.driver(PowerControl) as driver:
            driver.power_cycle()
        return {}

    context = rig.context()
    context.host = rig.host
    steps = {**door.steps(), State.LEASED: shared.enter_leased}
    if State.STAGING not in door.failures:
        steps[State.STAGING] = staging
    return flash(context, rig.plan(Door.PXE), steps=steps, **options).state


def test_a_locked_host_is_flashed_and_locked_again(rig, latitude) -> None:
    assert begin(rig, FakeDoor()) is State.COMMITTED
    assert latitude.machine.done == ["power off", "power on"]
    assert latitude.is_locked
    assert next(path.rpartition("/")[2] for path, _ in latitude.requests()) == "unlock"
    assert latest(rig.folder).evidence("provider_lock") is True


def test_it_is_locked_again_after_a_failure(rig, latitude) -> None:
    with pytest.raises(HostError, match="it broke"):
        begin(rig, FakeDoor({State.WRITING: HostError("it broke")}))
    assert latitude.machine.done == ["power off", "power on"]
    assert latitude.is_locked


def test_the_journal_knows_of_the_lock_before_it_is_off(rig, latitude) -> None:
    begin(rig, FakeDoor(), until=State.LEASED)
    assert latest(rig.folder).evidence("provider_lock") is True
    assert latitude.requests() == []


@pytest.fixture
def killed(rig, latitude) -> Rig:
    """A flash that was killed while the lock was off."""
    begin(rig, FakeDoor(), until=State.STAGING)
    latitude.is_locked = False
    return rig


def test_a_killed_flash_locks_it_again_once_it_is_taken_up(killed, latitude) -> None:
    assert begin(killed, FakeDoor()) is State.COMMITTED
    assert latitude.is_locked


def test_a_flash_that_takes_the_place_of_a_killed_one_locks_it_again(killed, latitude) -> None:
    context = killed.context(cmdline="debug")
    context.host = killed.host
    flash(context, killed.plan(Door.PXE, cmdline="debug"), until=State.LEASED, steps=FakeDoor().steps())
    assert latitude.is_locked


def test_an_abort_locks_it_again(killed, latitude, monkeypatch) -> None:
    context = killed.context()
    context.host, context.journal = killed.host, latest(killed.folder)
    monkeypatch.setattr("flash.run.prepare_open", lambda *_: (context, killed.plan(Door.PXE)))
    abort(killed.settings, "rpc-1", killed.reporter)
    assert latitude.is_locked


def test_a_host_that_was_not_locked_stays_so(rig, latitude) -> None:
    latitude.is_locked = False
    assert begin(rig, FakeDoor()) is State.COMMITTED
    assert not latitude.is_locked
    assert latest(rig.folder).evidence("provider_lock") is None


def test_without_that_a_locked_host_refuses_even_us(rig, latitude) -> None:
    context = rig.context()
    context.host = rig.host
    with pytest.raises(Refused, match="locked at the provider"), context.driver(PowerControl) as driver:
        driver.power_cycle()
    with provider_lock.unlocked(context), context.driver(PowerControl) as driver:
        driver.power_cycle()
    assert latitude.is_locked


def test_a_provider_that_does_not_lock_again_is_warned_about(rig, latitude, monkeypatch) -> None:
    context = rig.context()
    context.host = rig.host
    monkeypatch.setattr("flash.drivers.latitude.LatitudeDriver.lock", lambda _: _fail("the API is away"))
    provider_lock.lock_again(context)
    assert "rpc-1 stays unlocked at its provider (the API is away)" in rig.reporter.lines[-1]


def _fail(text: str) -> None:
    raise HostError(text)
