"""What a provider's or a BMC's API can do for a host, as small Protocols.

An ability that a driver lacks is a Protocol that it does not satisfy; nothing here raises "not supported".
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from qtrade.manifest import Host


class PowerState(StrEnum):
    """Whether a host has power, as its BMC says."""

    ON = "On"
    OFF = "Off"
    POWERING_ON = "PoweringOn"
    POWERING_OFF = "PoweringOff"
    UNKNOWN = "Unknown"


class BootSource(StrEnum):
    """What a host boots from; the words are Redfish's."""

    NONE = "None"
    HDD = "Hdd"
    PXE = "Pxe"
    CD = "Cd"
    UEFI_HTTP = "UefiHttp"


class OverrideEnabled(StrEnum):
    """For how long a boot override holds."""

    DISABLED = "Disabled"
    ONCE = "Once"
    CONTINUOUS = "Continuous"


@dataclass(frozen=True)
class BootOverride:
    """A boot override as it was read back. Some BMCs store ONCE as CONTINUOUS, so whoever set one also clears it."""

    target: BootSource = BootSource.NONE
    enabled: OverrideEnabled = OverrideEnabled.DISABLED
    http_boot_uri: str | None = None

    @property
    def is_set(self) -> bool:
        """Whether the next boot will go elsewhere than usual."""
        return self.enabled is not OverrideEnabled.DISABLED and self.target is not BootSource.NONE


@runtime_checkable
class PowerControl(Protocol):
    """Power. Each call returns once the host was seen in the new state; `HostError` when that takes too long."""

    def power_state(self) -> PowerState:
        """Ask for the state now."""
        ...

    def power_on(self) -> None:
        """Switch on; nothing happens to a host that is on."""
        ...

    def power_off(self) -> None:
        """Cut the power without asking the system."""
        ...

    def power_cycle(self) -> None:
        """Cut the power, see that it is off, and switch on."""
        ...


@runtime_checkable
class BootControl(Protocol):
    """One boot from elsewhere."""

    def boot_once(self, source: BootSource) -> BootOverride:
        """Make the next boot use `source`, and return what the BMC then says. Raises `HostError` when it differs."""
        ...

    def boot_override(self) -> BootOverride:
        """Read the override."""
        ...

    def clear_boot_override(self) -> None:
        """Take the override back; nothing happens when there is none."""
        ...


@runtime_checkable
class VirtualMedia(Protocol):
    """A disc image that the BMC shows to the host as a CD."""

    def insert(self, url: str) -> None:
        """Show the image at `url`, in place of what was there."""
        ...

    def eject(self) -> None:
        """Take it away; nothing happens when there is none."""
        ...


@runtime_checkable
class HttpBoot(Protocol):
    """One boot of a program that the firmware itself fetches over HTTP (UEFI)."""

    def boot_http_once(self, url: str) -> BootOverride:
        """Make the next boot fetch `url`, and return what the BMC then says. Raises `HostError` when it differs."""
        ...


@dataclass(frozen=True)
class RescueLogin:
    """How to log in to a rescue system. `host_keys` is empty where the API does not tell them."""

    user: str
    password: str | None = None
    host_keys: tuple[str, ...] = ()


@runtime_checkable
class RescueMode(Protocol):
    """A provider's rescue system, booted from its network; the disks stay as they are."""

    def enter_rescue(self, public_key: str) -> RescueLogin:
        """Boot the rescue system. Returns once the API has shown the change; that SSH answers proves nothing yet."""
        ...

    def leave_rescue(self) -> None:
        """Boot from the disk again at the next start; nothing happens outside rescue mode."""
        ...


@runtime_checkable
class RescueState(Protocol):
    """Whether a provider's rescue system is what a server boots."""

    def is_in_rescue(self) -> bool:
        """Ask for the mode now."""
        ...


@runtime_checkable
class IpxeBoot(Protocol):
    """A boot into an iPXE script of ours. At most providers this is a reinstall, which erases all disks (`manifest.driver.wipes`)."""

    def boot_ipxe(self, url: str) -> None:
        """Make the host boot the script at `url`, now and once. Returns once the API has shown that it began."""
        ...


@runtime_checkable
class Reinstall(Protocol):
    """The provider's own installation of a stock system. Erases all disks."""

    def reinstall(self, *, hostname: str, public_key: str) -> str:
        """Install a stock system that lets the key log in, and wait until the API has shown the end. Returns the user to log in as."""
        ...


@runtime_checkable
class ServiceDeploy(Protocol):
    """A service of the operator's own that keeps hosts and boots them as a deployment, such as Ironic."""

    def check_deploy(self, host: Host) -> dict[str, Any]:
        """Say how the service knows the host, and change nothing. Raises `Refused` where it is not ours to deploy now."""
        ...

    def deploy(self, host: Host, disc_url: str) -> dict[str, Any]:
        """Enrol the host if need be, tell the service which disks are whose, and have it boot the disc. Returns once it did."""
        ...

    def boot_from_disk(self) -> None:
        """Let the host boot from its disk from now on, and leave the service nothing to boot or write by itself."""
        ...


@runtime_checkable
class HostLock(Protocol):
    """The provider's own guard against changes."""

    def lock(self) -> None:
        """Let the provider refuse changes."""
        ...

    def unlock(self) -> None:
        """Take the lock away; nothing happens when there is none."""
        ...

    def is_locked(self) -> bool:
        """Ask for the lock now."""
        ...
