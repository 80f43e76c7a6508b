"""Which module opens which door."""

from flash.doors import Steps, in_place, installer
from flash.doors.pxe import PxeEntry
from qtrade.errors import QtradeError
from qtrade.manifest.driver import Door


def steps_for(door: Door) -> Steps:
    """Return the functions of a door, one per state."""
    match door:
        case Door.IN_PLACE:
            return in_place.steps()
        case Door.PXE:
            return installer.steps(PxeEntry())
        case _:
            raise QtradeError(f"door {door} is not built yet")
