"""The doors that a provider opens by installing the host: its custom iPXE boot, and its own stock system."""

from flash.context import Evidence, FlashContext
from flash.doors.foreign import reach, read_public_key, refuse_unknown_key
from flash.doors.installer import Installer, Place
from flash.doors.kexec import start_from
from flash.doors.pxe import netboot_place, trusted_netboot
from flash.drivers import IpxeBoot, Reinstall, RescueLogin
from qtrade.errors import Refused
from qtrade.manifest.driver import Door, wipes

_BOOT_S = 900.0


class ProviderIpxeEntry:
    """Have the provider boot our iPXE script, at a path that only this flash has and that works once."""

    def check(self, context: FlashContext) -> Evidence:
        """Check that the network is trusted and that the provider has such a boot."""
        trusted_netboot(context)
        refuse_kept_data(context, Door.PROVIDER_IPXE)
        with context.driver(IpxeBoot):
            return {}

    def can_repeat(self, context: FlashContext) -> bool:
        """Once more where the provider only reboots; a reinstall is not asked for twice."""
        return not wipes(context.host.driver.kind, Door.PROVIDER_IPXE)

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say; the provider is told the path."""
        return netboot_place(trusted_netboot(context))

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Boot the script."""
        with context.driver(IpxeBoot) as driver:
            driver.boot_ipxe(f"{installer.served.url}/boot.ipxe")
        return {"script": "served once, `exit` afterwards"}

    def leave(self, context: FlashContext) -> None:
        """Nothing to take back: whoever asks for the script again is told to go on to the disk."""


class ProviderReinstallEntry:
    """Have the provider install a stock system, and start the installer from that by kexec."""

    def check(self, context: FlashContext) -> Evidence:
        """Check that the host may be erased, and that the new system may be logged in to: nobody knows its host key yet."""
        refuse_kept_data(context, Door.PROVIDER_REINSTALL)
        refuse_unknown_key(context)
        read_public_key(context)
        with context.driver(Reinstall):
            return {}

    def can_repeat(self, context: FlashContext) -> bool:
        """Once only: it erases all disks."""
        del context
        return False

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say, but not the job, which goes over SSH."""
        if context.host.netboot is None:
            raise Refused(f"host {context.host.name}: door provider_reinstall needs netboot")
        return netboot_place(context.host.netboot, shows_job=False)

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Install, log in, start the installer."""
        host = context.host
        with context.reporter.step("the provider's installation"), context.driver(Reinstall) as driver:
            user = driver.reinstall(hostname=host.name, public_key=read_public_key(context))
        context.was_powered_off = True
        system = reach(context, RescueLogin(user))
        facts = system.wait_until(lambda now: not now.is_ours, within_s=_BOOT_S, what="the provider's system")
        started = start_from(system, context, installer)
        return {"stock_boot_id": facts.boot_id, "stock_release": facts.release, **started}

    def leave(self, context: FlashContext) -> None:
        """Nothing to take back."""


def refuse_kept_data(context: FlashContext, door: Door) -> None:
    """Raise `Refused` where the provider would erase disks of a host that is not disposable. The manifest is checked too."""
    host = context.host
    if wipes(host.driver.kind, door) and host.data_policy != "disposable":
        raise Refused(
            f"through door {door}, {host.driver.kind} erases all disks of {host.name}",
            resolution="set data_policy: disposable if nothing on it is worth keeping, or use another door",
        )
