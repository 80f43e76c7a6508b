"""Which module opens which door."""

from flash.doors import Steps, in_place, installer
from flash.doors.installer import Entry
from flash.doors.pxe import PxeEntry
from qtrade.errors import QtradeError
from qtrade.manifest.driver import Door


def steps_for(door: Door) -> Steps:
    """Return the functions of a door, one per state."""
    return in_place.steps() if door is Door.IN_PLACE else installer.steps(entry_for(door))


def entry_for(door: Door) -> Entry:
    """Return how a door gets the installer running."""
    match door:
        case Door.PXE:
            return PxeEntry()
        case _:
            raise QtradeError(f"door {door} is not built yet")
