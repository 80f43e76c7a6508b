"""Which door is tried when one has failed: a pure decision."""

from flash.doors import DoorClosed
from flash.states import State
from qtrade.errors import HostError, QtradeError
from qtrade.manifest import Host
from qtrade.manifest.driver import Door, wipes

# This door has written nothing, and the next one begins with what the host then says of itself. What a killed controller has left half
# written, the next door writes anew.
_NOTHING_WRITTEN = (State.PREFLIGHT, State.STAGING)


def next_door(host: Host, failed: Door, state: State, error: QtradeError, *, may_wipe: bool = False) -> Door | None:
    """Return the host's next door after `failed`, or None where going on would not be safe or would not help.

    Only a door's own faults count: an image that is refused through one door is refused through all. A door behind which the provider
    erases disks is passed over unless somebody has typed the host's name for it (`may_wipe`).
    """
    if state not in _NOTHING_WRITTEN or not isinstance(error, HostError | DoorClosed) or failed not in host.doors:
        return None
    later = host.doors[host.doors.index(failed) + 1 :]
    return next((door for door in later if may_wipe or not wipes(host.driver.kind, door)), None)
