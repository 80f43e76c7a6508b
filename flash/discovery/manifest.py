"""The first manifest of a host, from what was found and what was decided. Pure, but for the one write that overwrites nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from flash.discovery.choices import Disks, Place
from flash.discovery.found import FoundDisk, Machine
from qtrade.errors import BadInput, ConflictError
from qtrade.manifest import Host, load_text
from qtrade.manifest.driver import Door, wipes
from qtrade.settings import Settings
from qtrade.ssh import public_half

_IDENTIFIERS = ("serial", "wwid", "size_bytes")
_CONFIG_SAYS = "as it is set up now; `qtrade config show` says what else its image takes. Give people keys of their own"
_ENDS_HERE = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Doors:
    """The doors in order; where one of them needs it, the netboot server's URL and the MAC that boots from it."""

    names: tuple[Door, ...]
    netboot_url: str | None = None
    mac: str | None = None


def manifest_path(settings: Settings, name: str) -> Path:
    """Return where a host's manifest is. Raises `ConflictError` where there is one: it is never overwritten."""
    path = settings.project / "manifests/hosts" / f"{name}.yaml"
    if path.exists():
        raise ConflictError(
            f"{path} is there already, and is never overwritten", resolution="edit it, or choose another --name"
        )
    return path


def render_manifest(place: Place, disks: Disks, doors: Doors, machine: Machine) -> str:
    """Return the manifest as YAML, with a comment that says which disk is meant. Raises `BadInput` where it would be no valid one."""
    parts = [_part(fields, comment) for fields, comment in _fields(place, disks, doors, machine)]
    text = "".join(parts)
    load_text(Host, text, source=f"the manifest of {place.name}")
    return text


def write_manifest(path: Path, text: str) -> None:
    """Write a new file. Raises `ConflictError` when somebody else wrote it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as sink:
            sink.write(text)
    except FileExistsError as error:
        raise ConflictError(f"{path} was written by somebody else meanwhile", resolution="look at it") from error


def identify(disk: FoundDisk, machine: Machine) -> dict[str, Any]:
    """Return the identifiers that this disk and no other of the machine has, at least two. Raises `BadInput`."""
    chosen = {name: getattr(disk, name) for name in _IDENTIFIERS if getattr(disk, name)}
    if disk.pci_path and (len(chosen) < 2 or _same(machine, chosen) > 1):
        chosen["pci_path"] = disk.pci_path
    if len(chosen) < 2 or _same(machine, chosen) > 1:
        raise BadInput(
            f"{disk.name} cannot be told from other disks by two identifiers",
            details="\n".join(f"  {one.describe()}" for one in machine.disks),
            resolution="look over SSH, where more is known than a BMC tells; a disk without serial, WWID and PCI path cannot be used",
        )
    return chosen


def _same(machine: Machine, chosen: dict[str, Any]) -> int:
    return sum(all(getattr(one, name) == value for name, value in chosen.items()) for one in machine.disks)


def _fields(place: Place, disks: Disks, doors: Doors, machine: Machine) -> Iterator[tuple[dict[str, Any], str]]:
    yield {"schema_version": 1, "name": place.name}, ""
    yield {"environment": place.environment, "role": place.role, "recipe": place.recipe, "address": place.address}, ""
    if place.identity_file is not None:
        yield {"ssh": {"identity_file": str(place.identity_file)}}, ""
    driver = {**place.driver, "system": machine.system} if machine.system else place.driver
    yield {"driver": driver}, ""
    yield {"doors": [str(door) for door in doors.names]}, "tried in this order"
    if doors.netboot_url is not None:
        yield {"netboot": _netboot(doors)}, ""
    if machine.host_key:
        rescue = {"user": place.ssh_user, "port": place.ssh_port, "host_key": machine.host_key}
        yield {"rescue": rescue}, "what ran there before qtrade; a rescue system has another key"
    kind = str(place.driver["kind"])
    if any(wipes(kind, door) for door in doors.names):
        yield {"data_policy": "disposable"}, f"{kind} erases all disks through one of these doors"
    yield {"os_disk": identify(disks.os_disk, machine)}, f"overwritten by a flash: {disks.os_disk.describe()}"
    if disks.protected:
        kept = [{**_known(disk), **_fs(disk)} for disk in disks.protected]
        yield {"protected_disks": kept}, _described("never written to", disks.protected)
    if disks.data:
        data = [{**_known(disk), **_fs(disk), "mount": mount} for disk, mount in disks.data]
        yield {"data_disks": data}, _described("the services write to", tuple(disk for disk, _ in disks.data))
    config = _config(place, disks, doors, machine)
    yield {"config": config}, _CONFIG_SAYS


def _config(place: Place, disks: Disks, doors: Doors, machine: Machine) -> dict[str, Any]:
    """Return what every image asks for and what was seen: the network, the mounts, who may log in."""
    network, mac = machine.network, machine.mac or doors.mac
    public = public_half(place.identity_file) if place.identity_file else None
    key = public.read_text().strip() if public and public.is_file() else ""
    mounts = [
        {"what": f"UUID={disk.fs_uuid}", "where": mount, "type": disk.partitions[0].filesystem}
        for disk, mount in disks.data
        if disk.fs_uuid and len(disk.partitions) == 1
    ]
    return {
        **({"bare_metal_mac": mac} if mac else {}),
        **({"bare_metal_addresses": list(network.addresses)} if network.addresses else {}),
        **({"bare_metal_gateways": list(network.gateways)} if network.gateways else {}),
        **({"bare_metal_dns": list(network.dns)} if network.dns else {}),
        "bare_metal_mounts": mounts,
        **({"bare_metal_ssh_keys": {"deploy": [key], "operator": [key], "readonly": []}} if key else {}),
    }


def _netboot(doors: Doors) -> dict[str, Any]:
    url = doors.netboot_url or ""
    parts = urlsplit(url)
    listen = "127.0.0.1" if parts.hostname in _ENDS_HERE else "0.0.0.0"  # noqa: S104 - hosts must reach it during a flash
    return {"listen": listen, "port": parts.port or 80, "url": url, "mac": doors.mac}


def _known(disk: FoundDisk) -> dict[str, Any]:
    known = {name: getattr(disk, name) for name in ("serial", "wwid") if getattr(disk, name)}
    if not known:
        raise BadInput(f"{disk.name} has neither serial nor WWID", resolution="leave it out of --protect and --data")
    return known


def _fs(disk: FoundDisk) -> dict[str, str]:
    return {"fs_uuid": disk.fs_uuid} if disk.fs_uuid else {}


def _described(what: str, disks: tuple[FoundDisk, ...]) -> str:
    return "\n".join((f"{what}:", *(f"  {disk.describe()}" for disk in disks)))


def _part(fields: dict[str, Any], comment: str) -> str:
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.safe_dump(fields, sort_keys=False, width=10**6)
