"""Drivers: clients of providers' and BMCs' APIs, one module each, and the one place that picks one."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from flash.drivers.abilities import (
    BootControl,
    BootOverride,
    BootSource,
    HostLock,
    HttpBoot,
    IpxeBoot,
    OverrideEnabled,
    PowerControl,
    PowerState,
    Reinstall,
    RescueLogin,
    RescueMode,
    RescueState,
    ServiceDeploy,
    VirtualMedia,
)
from qtrade.manifest import driver as manifest

__all__ = [
    "BootControl",
    "BootOverride",
    "BootSource",
    "Driver",
    "HostLock",
    "HttpBoot",
    "IpxeBoot",
    "OverrideEnabled",
    "PowerControl",
    "PowerState",
    "ReadSecret",
    "Reinstall",
    "RescueLogin",
    "RescueMode",
    "RescueState",
    "ServiceDeploy",
    "VirtualMedia",
    "driver_for",
]

ReadSecret = Callable[[str], str]


class Driver(Protocol):
    """A driver: a context manager that connects at its first call and logs out at its end. Its abilities are the Protocols it satisfies."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def driver_for(
    access: manifest.Driver,
    read_secret: ReadSecret,
    *,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Driver:
    """Return the driver for a host. `read_secret` gives the value behind a reference; it is asked at the first call only.

    `folder` keeps what processes share, so that together they respect a provider's limits; `say` is told of progress.
    """
    match access:
        case manifest.RedfishDriver():
            from flash.drivers.redfish import RedfishDriver  # noqa: PLC0415 - keeps the clients out of other commands

            return RedfishDriver(access)
        case manifest.SshDriver():
            from flash.drivers.ssh import SshDriver  # noqa: PLC0415

            return SshDriver()
        case manifest.IronicDriver():
            from flash.drivers.ironic import IronicDriver  # noqa: PLC0415
            from flash.drivers.waiting import Waiting  # noqa: PLC0415

            return IronicDriver(access, read_secret, Waiting(say=say))
        case _:
            from flash.drivers.connect import Surroundings, connect_provider  # noqa: PLC0415
            from flash.drivers.waiting import Waiting  # noqa: PLC0415

            return connect_provider(access, read_secret, Surroundings(folder, Waiting(say=say)))
