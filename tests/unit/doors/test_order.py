"""Which door follows one that failed, and that no door is named without being built."""

import pytest

from flash.doors import DoorClosed
from flash.doors.order import next_door
from flash.doors.table import ENTRIES, steps_for
from flash.states import State, sequence
from qtrade.errors import HostError, QtradeError, Refused, TrustError
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host

pytestmark = pytest.mark.unit

HOST = make_host(doors=["in_place", "kexec", "virtual_media", "pxe"])
FAULT = HostError("the BMC does not answer")
LATITUDE = {"kind": "latitude", "server_id": "sv_1", "token": "env:TOKEN"}


def test_every_door_is_built() -> None:
    assert {*ENTRIES, Door.IN_PLACE} == set(Door)
    for door in Door:
        assert set(steps_for(door)) == set(sequence(door)) - {State.PLANNED}


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        (Door.IN_PLACE, Door.KEXEC),
        (Door.KEXEC, Door.VIRTUAL_MEDIA),
        (Door.VIRTUAL_MEDIA, Door.PXE),
        (Door.PXE, None),
        (Door.RESCUE, None),
    ],
)
def test_the_next_door_is_the_next_of_the_manifest(failed: Door, expected: Door | None) -> None:
    assert next_door(HOST, failed, State.STAGING, FAULT) is expected
    assert next_door(HOST, failed, State.PREFLIGHT, DoorClosed("locked down")) is expected


@pytest.mark.parametrize("state", sorted(set(State) - {State.PREFLIGHT, State.STAGING}))
def test_no_door_follows_once_a_byte_may_be_written_or_the_drain_failed(state: State) -> None:
    assert next_door(HOST, Door.KEXEC, state, FAULT) is None


@pytest.mark.parametrize("error", [TrustError("revoked"), Refused("an older version"), QtradeError("a defect")])
def test_what_every_door_would_refuse_ends_the_flash(error: QtradeError) -> None:
    assert next_door(HOST, Door.KEXEC, State.PREFLIGHT, error) is None


def test_a_door_that_erases_disks_needs_the_typed_name() -> None:
    host = make_host(
        driver=LATITUDE,
        doors=["kexec", "provider_ipxe", "rescue", "provider_reinstall"],
        data_policy="disposable",
        protected_disks=[],
    )
    assert next_door(host, Door.KEXEC, State.STAGING, FAULT) is Door.RESCUE
    assert next_door(host, Door.KEXEC, State.STAGING, FAULT, may_wipe=True) is Door.PROVIDER_IPXE
    assert next_door(host, Door.RESCUE, State.STAGING, FAULT) is None
