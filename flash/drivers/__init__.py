"""Drivers: what a provider's or a BMC's API can do for a host, as small Protocols, and the one place that picks one.

An ability that a driver lacks is a Protocol that it does not satisfy; nothing here raises "not supported".
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from flash.drivers.redfish import RedfishDriver


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


class RedfishAccess(Protocol):
    """How to reach a host's BMC; the `driver` of a host manifest is one."""

    @property
    def url(self) -> str:
        """Where the BMC listens, without a path."""
        ...

    @property
    def system(self) -> str:
        """Path of the system, such as /redfish/v1/Systems/1."""
        ...

    @property
    def username(self) -> str:
        """Who logs in."""
        ...

    @property
    def password_file(self) -> Path:
        """File that holds nothing but the password."""
        ...

    @property
    def verify_tls(self) -> bool:
        """Whether the BMC's certificate must be valid."""
        ...


def driver_for(access: RedfishAccess) -> "RedfishDriver":
    """Return the driver for a host. Connects only at its first call."""
    from flash.drivers.redfish import RedfishDriver  # noqa: PLC0415 - keeps the BMC client out of other commands

    return RedfishDriver(access)
