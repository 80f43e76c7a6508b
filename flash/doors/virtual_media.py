"""The virtual media door: the BMC shows the host a disc with the installer on it, and boots from it once."""

import tempfile
from pathlib import Path

from flash.context import Evidence, FlashContext
from flash.doors.installer import Installer, Place, read_power
from flash.doors.pxe import clear_override, netboot_place, trusted_netboot
from flash.drivers import BootControl, BootSource, PowerControl, VirtualMedia
from flash.netboot.disc import make_disc
from qtrade.errors import QtradeError
from qtrade.toolsroot import open_tools

_DISC = "installer.iso"


class VirtualMediaEntry:
    """Insert a disc, boot from CD once, take the disc out again."""

    def check(self, context: FlashContext) -> Evidence:
        """Check that the network is trusted, that the disc can be made, and that the BMC answers."""
        trusted_netboot(context)
        open_tools(context.settings)
        return read_power(context)

    def can_repeat(self, context: FlashContext) -> bool:
        """Boot once more: nothing else happens."""
        del context
        return True

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say; the disc names the path."""
        return netboot_place(trusted_netboot(context))

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Make the disc of this flash, show it, and boot from it once."""
        url, digest = serve_disc(context, installer)
        context.clean_up.append(lambda: _take_back(context))
        with context.driver(VirtualMedia) as driver:
            driver.insert(url)
        with context.driver(BootControl) as control:
            override = control.boot_once(BootSource.CD)
        with context.driver(PowerControl) as power:
            power.power_cycle()
        return {"override": override.enabled, "disc": digest}

    def leave(self, context: FlashContext) -> None:
        """Take the disc and the override away: some BMCs store ONCE as CONTINUOUS."""
        _take_back(context)


def serve_disc(context: FlashContext, installer: Installer) -> tuple[str, str]:
    """Make the disc of this flash, and serve it until the flash ends. Returns where its BMC finds it, and its SHA-256."""
    folder = Path(tempfile.mkdtemp(prefix="qtrade-disc-"))
    disc = folder / _DISC
    context.clean_up.append(lambda: _remove(disc))
    with context.reporter.step("make the disc"):
        digest = make_disc(open_tools(context.settings), installer.boot, f"{installer.served.url}/job", disc)
    installer.served.files[_DISC] = disc
    netboot = trusted_netboot(context)
    return f"{netboot.bmc_url or netboot.url}/{installer.served.token}/{_DISC}", digest


def _take_back(context: FlashContext) -> None:
    try:
        with context.driver(VirtualMedia) as driver:
            driver.eject()
    except QtradeError as error:
        context.reporter.say(f"warning: {error.brief}")
    clear_override(context)


def _remove(disc: Path) -> None:
    disc.unlink(missing_ok=True)
    disc.parent.rmdir()
