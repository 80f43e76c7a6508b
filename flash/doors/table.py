"""Which module opens which door."""

from collections.abc import Callable

from flash.doors import Steps, in_place, installer
from flash.doors.installer import Entry
from flash.doors.ironic import IronicEntry
from flash.doors.kexec import KexecEntry
from flash.doors.provider import ProviderIpxeEntry, ProviderReinstallEntry
from flash.doors.pxe import PxeEntry
from flash.doors.rescue import RescueEntry
from flash.doors.uefi_http import UefiHttpEntry
from flash.doors.virtual_media import VirtualMediaEntry
from qtrade.manifest.driver import Door

# All but the one whose agent runs already.
ENTRIES: dict[Door, Callable[[], Entry]] = {
    Door.KEXEC: KexecEntry,
    Door.RESCUE: RescueEntry,
    Door.VIRTUAL_MEDIA: VirtualMediaEntry,
    Door.UEFI_HTTP: UefiHttpEntry,
    Door.PXE: PxeEntry,
    Door.IRONIC: IronicEntry,
    Door.PROVIDER_IPXE: ProviderIpxeEntry,
    Door.PROVIDER_REINSTALL: ProviderReinstallEntry,
}


def steps_for(door: Door) -> Steps:
    """Return the functions of a door, one per state."""
    return in_place.steps() if door is Door.IN_PLACE else installer.steps(entry_for(door))


def entry_for(door: Door) -> Entry:
    """Return how a door gets the installer running."""
    return ENTRIES[door]()
