"""The Ironic door: Ironic deploys the host, and what it boots for that is our installer, from a disc of this flash."""

from flash.context import Evidence, FlashContext
from flash.doors.installer import Installer, Place
from flash.doors.pxe import netboot_place, trusted_netboot
from flash.doors.virtual_media import serve_disc
from flash.drivers import ServiceDeploy
from qtrade.errors import QtradeError
from qtrade.toolsroot import open_tools


class IronicEntry:
    """Have Ironic boot the disc as a deployment, and give it back a host that boots from its disk."""

    def check(self, context: FlashContext) -> Evidence:
        """Check that the network is trusted, that the disc can be made, and that Ironic has the host free for us."""
        trusted_netboot(context)
        open_tools(context.settings)
        with context.driver(ServiceDeploy) as driver:
            return driver.check_deploy(context.host)

    def can_repeat(self, context: FlashContext) -> bool:
        """Deploy once more: the host boots the disc again, and Ironic writes nothing."""
        del context
        return True

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say; the disc names the path."""
        return netboot_place(trusted_netboot(context))

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Make the disc of this flash, and have Ironic boot it."""
        url, digest = serve_disc(context, installer)
        context.clean_up.append(lambda: _give_back(context))
        with context.reporter.step("Ironic's deployment"), context.driver(ServiceDeploy) as driver:
            return {"disc": digest, **driver.deploy(context.host, url)}

    def arrived(self, context: FlashContext) -> None:
        """Take the disc back as soon as the installer runs from memory: Ironic sets it as what boots for good, not once."""
        _give_back(context)

    def leave(self, context: FlashContext) -> None:
        """See once more that the host boots from its disk."""
        _give_back(context)


def _give_back(context: FlashContext) -> None:
    try:
        with context.driver(ServiceDeploy) as driver:
            driver.boot_from_disk()
    except QtradeError as error:
        context.reporter.say(f"warning: {error.brief}; see in Ironic that the node boots from its disk")
