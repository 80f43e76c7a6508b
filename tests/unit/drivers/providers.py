"""A driver of each provider in front of its fake, with waits short enough for unit tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flash.drivers.connect import Access, Surroundings, connect_provider
from flash.drivers.waiting import Pace, Waiting
from qtrade.manifest.driver import CherryDriver, LatitudeDriver, PhoenixnapDriver, TeraswitchDriver
from tests.fakes.providers import (
    FakeCherry,
    FakeLatitude,
    FakePhoenixnap,
    FakeProvider,
    FakeTeraswitch,
    SimulatedMachine,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJescueKeyOfTheTestsOnlyNotARealOne deploy@test"
SECRETS = {
    "env:LATITUDE": "latitude-token",
    "env:TERASWITCH": "7:teraswitch-secret",
    "env:CHERRY": "cherry-token",
    "env:PHOENIXNAP": "phoenixnap-secret",
}
TRANSITION_S = 0.08
PACE = Pace(first_s=0.02, factor=1.0, longest_s=0.02, backoff_s=0.001)


@dataclass
class Case:
    """A driver, its provider, the machine behind it, and what people were told."""

    driver: Any
    provider: Any
    machine: SimulatedMachine
    said: list[str]


FAKES: dict[str, Callable[..., FakeProvider]] = {
    "latitude": FakeLatitude,
    "teraswitch": FakeTeraswitch,
    "cherry": FakeCherry,
    "phoenixnap": FakePhoenixnap,
}


def access_to(provider: FakeProvider, **changes: Any) -> Access:
    """Return what a host manifest says about the fake's server."""
    match provider:
        case FakeLatitude():
            access: Access = LatitudeDriver(
                kind="latitude", server_id=provider.server_id, token="env:LATITUDE", url=provider.url
            )
        case FakeTeraswitch():
            access = TeraswitchDriver(
                kind="teraswitch",
                server_id=provider.server_id,
                region_id="EWR1",
                tier_id="7443p-256g",
                token="env:TERASWITCH",
                url=provider.url,
            )
        case FakeCherry():
            access = CherryDriver(kind="cherry", server_id=provider.server_id, token="env:CHERRY", url=provider.url)
        case FakePhoenixnap():
            access = PhoenixnapDriver(
                kind="phoenixnap",
                server_id=provider.server_id,
                client_id="client-1",
                client_secret="env:PHOENIXNAP",
                url=provider.url,
                auth_url=provider.auth_url,
            )
        case _:
            raise AssertionError(provider)
    return access.model_copy(update=changes)


@contextmanager
def connected(
    kind: str, *, is_on: bool = True, stale_s: float = 0.0, secret: str | None = None, **changes: Any
) -> Iterator[Case]:
    """Yield a driver in front of its fake. `secret` stands in for the right one, `changes` for fields of the manifest."""
    machine = SimulatedMachine(is_on=is_on)
    said: list[str] = []
    with FAKES[kind](machine, transition_s=TRANSITION_S, stale_s=stale_s) as provider:
        around = Surroundings(waiting=Waiting(say=said.append, pace=PACE), settle_s=0.3, requests_per_s=1000)
        read = (lambda ref: SECRETS[ref]) if secret is None else (lambda _: secret)
        with connect_provider(access_to(provider, **changes), read, around) as driver:
            yield Case(driver, provider, machine, said)
