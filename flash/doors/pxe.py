"""The PXE door: the BMC boots the host from the network once, our netboot server hands it the installer once."""

from flash.context import Evidence, FlashContext
from flash.doors.installer import Installer, Place, read_power
from flash.drivers import BootControl, BootSource, PowerControl
from flash.netboot.dnsmasq import Dnsmasq
from qtrade.errors import QtradeError, Refused
from qtrade.manifest.host import Netboot


class PxeEntry:
    """Boot from the network by the card's own firmware."""

    def check(self, context: FlashContext) -> Evidence:
        """Check that the network is trusted and that the BMC answers."""
        trusted_netboot(context)
        return read_power(context)

    def can_repeat(self, context: FlashContext) -> bool:
        """Boot once more: nothing else happens."""
        del context
        return True

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say; the card's firmware knows nothing but its MAC."""
        return netboot_place(trusted_netboot(context), asks_by_mac=True)

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Boot from the network once; where nobody else tells the host where to boot from, a DHCP server of our own does."""
        del installer
        netboot = trusted_netboot(context)
        if netboot.dhcp is not None:
            loaders = context.settings.tools_dir / "usr/lib/ipxe"
            server = Dnsmasq(netboot.dhcp, mac=netboot.mac, url=netboot.url, loaders=loaders)
            context.clean_up.append(server.stop)
        context.clean_up.append(lambda: clear_override(context))
        with context.driver(BootControl) as driver:
            override = driver.boot_once(BootSource.PXE)
        with context.driver(PowerControl) as driver:
            driver.power_cycle()
        return {"override": override.enabled}

    def leave(self, context: FlashContext) -> None:
        """Take the override back: some BMCs store ONCE as CONTINUOUS."""
        clear_override(context)


def netboot_place(netboot: Netboot, *, asks_by_mac: bool = False, shows_job: bool = True) -> Place:
    """Return the place that a host's netboot settings name."""
    return Place(netboot.listen, netboot.port, netboot.url, netboot.mac, netboot.ip, shows_job, asks_by_mac)


def trusted_netboot(context: FlashContext) -> Netboot:
    """Return the host's netboot settings. Raises `Refused` for a network that nobody declared trusted."""
    netboot = context.host.netboot
    if netboot is None or not netboot.trusted_network:
        raise Refused(
            f"host {context.host.name}: the network that it boots from is not declared trusted",
            details="over plain HTTP whoever is on that network can give the host another installer",
            resolution="set netboot.trusted_network: true if only your own servers answer there, or use another door",
        )
    return netboot


def clear_override(context: FlashContext) -> None:
    """Clear the boot override; a BMC that does not let it is warned about."""
    try:
        with context.driver(BootControl) as driver:
            driver.clear_boot_override()
    except QtradeError as error:
        context.reporter.say(f"warning: {error.brief}")
