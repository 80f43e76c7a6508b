"""What the steps of a flash share: nobody waits for a host that has no power."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flash.config import render_bundle
from flash.drivers import PowerState
from flash.journal import Journal
from flash.ssh import pin_host_key
from flash.trust import VerifiedImage
from qtrade.errors import HostError
from qtrade.store import LocalStore
from tests.fakes.examples import make_environment, make_host, make_image, make_settings
from tests.fakes.flash import FakeContext, FakeLink
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit


class Power:
    """A driver that only tells the power state, or fails."""

    def __init__(self, state: PowerState | HostError) -> None:
        self.state = state
        self.asked = 0

    def power_state(self) -> PowerState:
        self.asked += 1
        if isinstance(self.state, HostError):
            raise self.state
        return self.state


class PoweredContext(FakeContext):
    power: Power

    @contextmanager
    def driver(self, ability) -> Iterator[Power]:
        yield self.power


def make_context(folder, power: Power) -> PoweredContext:
    settings, image, host, environment = make_settings(folder), make_image(), make_host(), make_environment()
    verified = VerifiedImage(image, image.to_json(), image.list_text(), b"")
    parts = (LocalStore(settings.store), render_bundle(host, environment, image), RecordingReporter())
    journal = Journal(settings.state_dir / "journal")
    link = FakeLink([{"boot_id": "b"}])
    context = PoweredContext(settings, host, environment, verified, *parts, journal, fake_link=link)
    context.power = power
    return context


@pytest.mark.parametrize(
    ("state", "answers"),
    [(PowerState.OFF, False), (PowerState.ON, True), (PowerState.UNKNOWN, True), (HostError("no BMC"), True)],
)
def test_a_host_is_asked_unless_its_driver_says_that_it_is_off(state, answers, tmp_path) -> None:
    power = Power(state)
    context = make_context(tmp_path, power)
    assert (context.status_or_none(), power.asked) == (None, 0)  # qtrade has never flashed it
    pin_host_key(context.settings, "rpc-1", "ssh-ed25519 AAAA")
    assert (context.status_or_none() == {"boot_id": "b"}) is answers
    assert power.asked == 1
