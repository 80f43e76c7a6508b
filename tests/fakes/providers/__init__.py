"""Providers' APIs on loopback, each in front of a machine that does what it is told.

Wiring one to a machine:

    with FakeLatitude(machine, token="…") as provider:
        ...  # a host manifest with `url: provider.url` and `server_id: provider.server_id`

`machine` is anything with the shape of `Machine`; `SimulatedMachine` is one that only remembers.
"""

from tests.fakes.providers.cherry import FakeCherry
from tests.fakes.providers.latitude import FakeLatitude
from tests.fakes.providers.machine import Machine, SimulatedMachine
from tests.fakes.providers.phoenixnap import FakePhoenixnap
from tests.fakes.providers.provider import Call, FakeProvider, Fault
from tests.fakes.providers.teraswitch import FakeTeraswitch

__all__ = [
    "Call",
    "FakeCherry",
    "FakeLatitude",
    "FakePhoenixnap",
    "FakeProvider",
    "FakeTeraswitch",
    "Fault",
    "Machine",
    "SimulatedMachine",
]
