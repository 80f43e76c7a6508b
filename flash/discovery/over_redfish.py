"""A look at a machine through its BMC: disks and network cards as Redfish shows them. It may be off; partitions stay unknown."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash.discovery.found import FoundDisk, FoundNic, Machine
from flash.drivers.redfish import connect_root
from qtrade.errors import BadInput, HostError
from qtrade.redaction import redact


@dataclass(frozen=True)
class Bmc:
    """How to reach a BMC. `system` is empty where it is to be found: a BMC of one machine has one."""

    url: str
    username: str
    password_file: Path
    system: str = ""
    verify_tls: bool = True


def discover_over_redfish(bmc: Bmc) -> Machine:
    """Log in, look, log out. Raises `HostError` when the BMC does not answer, `BadInput` for no password or several systems."""
    from requests import RequestException  # noqa: PLC0415 - slow to import
    from sushy.exceptions import SushyError  # noqa: PLC0415

    try:
        root, log_out = connect_root(bmc)
        try:
            system = root.get_system(bmc.system or _only_system(root, bmc.url))
            return Machine("redfish", tuple(_disks(system)), tuple(_nics(system)), system=system.path)
        finally:
            with suppress(SushyError, RequestException):
                log_out()
    except (SushyError, RequestException) as error:
        raise HostError(
            f"the BMC at {bmc.url} did not show its machine",
            details=redact(str(error)),
            resolution="check its URL, the user and the password file",
        ) from error


def _only_system(root: Any, url: str) -> str:
    paths = root.get_system_collection().members_identities
    if len(paths) != 1:
        raise BadInput(
            f"the BMC at {url} has {len(paths)} systems",
            details="\n".join(paths),
            resolution="name one: --bmc-system PATH",
        )
    return str(paths[0])


def _disks(system: Any) -> Iterator[FoundDisk]:
    """Give the drives of all storage controllers; of BMCs that know none, those of the simple list, which has fewer facts."""
    from sushy.exceptions import MissingAttributeError  # noqa: PLC0415 - slow to import

    found = []
    # Newer BMCs have Storage, old ones SimpleStorage only.
    with suppress(MissingAttributeError):
        for controller in system.storage.get_members():
            found += [_drive(drive) for drive in controller.drives]
    if not found:
        with suppress(MissingAttributeError):
            for controller in system.simple_storage.get_members():
                found += [_device(device) for device in controller.devices]
    yield from (disk for disk in found if disk.size_bytes)


def _drive(drive: Any) -> FoundDisk:
    return FoundDisk(
        str(drive.name or drive.identity),
        str(drive.model or ""),
        str(drive.serial_number or "").strip(),
        size_bytes=int(drive.capacity_bytes or 0),
        knows_partitions=False,
    )


def _device(device: Any) -> FoundDisk:
    return FoundDisk(
        str(device.name), str(device.model or ""), size_bytes=int(device.capacity_bytes or 0), knows_partitions=False
    )


def _nics(system: Any) -> Iterator[FoundNic]:
    from sushy.exceptions import MissingAttributeError  # noqa: PLC0415 - slow to import

    with suppress(MissingAttributeError):
        for nic in system.ethernet_interfaces.get_members():
            if nic.mac_address:
                state = nic.json.get("LinkStatus", "")
                yield FoundNic(str(nic.identity or nic.name), nic.mac_address.lower(), state == "LinkUp")
