"""The UEFI HTTP door: the firmware itself fetches iPXE over HTTP, at a path that only this flash has."""

from flash.context import Evidence, FlashContext
from flash.doors.installer import Installer, Place, efi_loader, read_power
from flash.doors.pxe import clear_override, netboot_place, trusted_netboot
from flash.drivers import HttpBoot, PowerControl
from qtrade.errors import Refused


class UefiHttpEntry:
    """Boot once from a URL that the BMC hands to the firmware."""

    def check(self, context: FlashContext) -> Evidence:
        """Check that the network is trusted, that there is an iPXE to serve, and that the BMC answers."""
        trusted_netboot(context)
        if efi_loader(context) is None:
            raise Refused("there is no iPXE for UEFI on this machine", resolution="run `qtrade tools`")
        return read_power(context)

    def can_repeat(self, context: FlashContext) -> bool:
        """Boot once more: nothing else happens."""
        del context
        return True

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say; the BMC is told the path."""
        return netboot_place(trusted_netboot(context))

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Boot once from the flash's own iPXE, which asks for the script next to itself."""
        context.clean_up.append(lambda: clear_override(context))
        with context.driver(HttpBoot) as driver:
            override = driver.boot_http_once(f"{installer.served.url}/ipxe.efi")
        with context.driver(PowerControl) as power:
            power.power_cycle()
        return {"override": override.enabled}

    def leave(self, context: FlashContext) -> None:
        """Take the override back: some BMCs store ONCE as CONTINUOUS."""
        clear_override(context)
