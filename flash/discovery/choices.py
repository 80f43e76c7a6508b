"""What a person decides about a new host, and the questions that lead there. Asking is the caller's: `Ask`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

from flash.discovery.found import FoundDisk, Machine
from qtrade.errors import BadInput, Refused, UsageError
from qtrade.manifest.base import HostRole
from qtrade.manifest.driver import OPENS, Door, Driver

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_WITHOUT_NETBOOT = (Door.IN_PLACE, Door.RESCUE)


class Ask(Protocol):
    """Asks a person one thing. Without a person, the default is the answer; without one, `UsageError` names the option."""

    def __call__(self, question: str, *, option: str, default: str | None = None, among: Sequence[str] = ()) -> str:
        """Return the answer, one of `among` where that is given."""
        ...


@dataclass(frozen=True)
class Given:
    """What options said already; None or empty where nothing was said."""

    name: str | None = None
    environment: str | None = None
    role: str | None = None
    recipe: str | None = None
    address: str | None = None
    driver: str | None = None
    driver_fields: dict[str, str] = field(default_factory=dict)
    identity_file: Path | None = None
    ssh_user: str | None = None
    ssh_port: int = 22
    os_disk: str | None = None
    protected: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    doors: tuple[str, ...] = ()
    netboot_url: str | None = None
    mac: str | None = None


@dataclass(frozen=True)
class Place:
    """What a host is and how it is reached: decided before anybody looks at it."""

    name: str
    environment: str
    role: str
    recipe: str
    address: str
    driver: dict[str, Any]
    identity_file: Path | None
    ssh_user: str
    ssh_port: int


@dataclass(frozen=True)
class Disks:
    """Which disk is what. `data` maps a disk's name to where it is mounted."""

    os_disk: FoundDisk
    protected: tuple[FoundDisk, ...]
    data: tuple[tuple[FoundDisk, str], ...]


def ask_place(given: Given, ask: Ask, *, environments: Sequence[str], recipes: Sequence[str]) -> Place:
    """Return what the host is. Raises `BadInput`, `UsageError`."""
    name = given.name or ask("Name of the host", option="--name")
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r:.80} is no name for a host", resolution="use small letters, digits and . _ -, such as rpc-1"
        )
    environment = _one(ask, given.environment, "Environment", "--env", environments, environments[:1])
    role = _one(ask, given.role, "Role", "--role", get_args(HostRole), ("rpc",))
    likely = ("lab",) if environment == "development" else ("production",)
    recipe = _one(
        ask, given.recipe, "Recipe of its images", "--recipe", recipes, [one for one in likely if one in recipes]
    )
    address = given.address or ask("Address (name or IP)", option="--address")
    kind = _one(ask, given.driver, "Driver: whose API reaches it", "--driver", sorted(OPENS), ("ssh",))
    fields = {"kind": kind, **_driver_fields(kind, given.driver_fields, ask)}
    own = Path("~/.ssh/id_ed25519").expanduser()
    named = given.identity_file or ask(
        "Private key that logs in to it", option="--identity", default=str(own) if own.is_file() else None
    )
    identity = Path(named).expanduser().absolute()
    user = given.ssh_user or ask("Who logs in to it now", option="--ssh-user", default="root")
    return Place(name, environment, role, recipe, address, fields, identity, user, given.ssh_port)


def ask_disks(given: Given, ask: Ask, machine: Machine) -> Disks:
    """Return which disk is what. There is no default for the OS disk; all others are protected unless that is said otherwise.

    Raises `Refused` where no disk was found: there is nothing to choose from.
    """
    if not machine.disks:
        cures = {
            "redfish": "look over SSH instead, at whatever runs there now or at a rescue system: --look-over ssh",
            "ssh": "look whether its disks are there: lsblk; or ask its BMC: --driver redfish",
        }
        raise Refused(
            f"{machine.source} shows no disk of that machine, so none can be chosen", resolution=cures[machine.source]
        )
    names = [disk.name for disk in machine.disks]
    named = given.os_disk or ask("Which disk is the OS disk? A flash overwrites it", option="--os-disk", among=names)
    os_disk = find_disk(machine, named)
    rest = [disk for disk in machine.disks if disk is not os_disk]
    told = given.data
    if told is None:
        answer = ask("Data disks, as NAME:/MOUNT, with commas between", option="--data", default="") if rest else ""
        told = _split(answer)
    data = tuple(_data_disk(machine, one) for one in told)
    left = [disk for disk in rest if disk not in [one for one, _ in data]]
    kept = given.protected
    if kept is None:
        likely = ", ".join(disk.name for disk in left if disk.serial or disk.wwid)
        answer = ask("Protected disks, which no flash may write to", option="--protect", default=likely) if left else ""
        kept = _split(answer)
    protected = tuple(find_disk(machine, one) for one in kept)
    for disk in (*protected, *(one for one, _ in data)):
        if disk is os_disk:
            raise UsageError(f"{disk.name} cannot be the OS disk and another one", resolution="name each disk once")
    return Disks(os_disk, protected, data)


def ask_doors(given: Given, ask: Ask, kind: str, machine: Machine) -> tuple[tuple[Door, ...], str | None, str | None]:
    """Return the doors in order, the URL of the netboot server and the MAC that boots from it; the two None for doors that need none."""
    doors = tuple(_door(name, kind) for name in given.doors)
    url = given.netboot_url
    needs = [door for door in doors if door not in _WITHOUT_NETBOOT]
    if url is None and (needs or not doors):
        question = "URL at which the host reaches this machine's netboot server during a flash, empty for none"
        url = ask(question, option="--netboot-url", default=None if needs else "") or None
    if not doors:
        more = (Door.VIRTUAL_MEDIA, Door.KEXEC) if url else ()
        doors = tuple(door for door in (Door.IN_PLACE, Door.RESCUE, *more) if door in OPENS[kind])
    if url is None:
        return doors, None, None
    question = "MAC of the card that boots from the network"
    mac = given.mac or ask(question, option="--mac", default=machine.mac or None)
    return doors, url, mac.lower()


def find_disk(machine: Machine, named: str) -> FoundDisk:
    """Return the one disk of that name, serial or WWID. Raises `BadInput`, showing all."""
    found = [disk for disk in machine.disks if named and named in (disk.name, disk.serial, disk.wwid)]
    if len(found) != 1:
        raise BadInput(
            f"{len(found)} disks are called {named!r:.80}",
            details="\n".join(f"  {disk.describe()}" for disk in machine.disks),
            resolution="name one by its name, serial or WWID",
        )
    return found[0]


def _split(answer: str) -> tuple[str, ...]:
    """Return the names between commas: a BMC's have blanks in them."""
    return tuple(one.strip() for one in answer.split(",") if one.strip())


def _one(ask: Ask, given: str | None, question: str, option: str, among: Sequence[str], likely: Sequence[str]) -> str:
    if given is None:
        return ask(question, option=option, default=likely[0] if likely else None, among=among)
    if given not in among:
        raise UsageError(
            f"{option} {given} is none of them", resolution=f"use one of {', '.join(among) or 'none there are'}"
        )
    return given


def _driver_fields(kind: str, given: dict[str, str], ask: Ask) -> dict[str, Any]:
    """Return the fields of a driver's model, asked for where they have no default. Raises `BadInput` for one that it does not have."""
    model = next(
        one for one in get_args(get_args(Driver)[0]) if get_args(one.model_fields["kind"].annotation) == (kind,)
    )
    unknown = sorted(set(given) - set(model.model_fields))
    if unknown:
        raise BadInput(f"driver {kind} has no field {unknown[0]}", resolution=f"it has {', '.join(model.model_fields)}")
    asked = {
        name: ask(f"driver.{name}", option=f"--driver-field {name}=…")
        for name, one in model.model_fields.items()
        if one.is_required() and name not in given and name not in ("kind", "system")
    }
    fields: dict[str, Any] = {**given, **asked}
    return {
        name: int(value) if name.endswith("_id") and str(value).isdigit() else value for name, value in fields.items()
    }


def _data_disk(machine: Machine, text: str) -> tuple[FoundDisk, str]:
    name, colon, mount = text.rpartition(":")
    if not colon or not mount.startswith("/"):
        raise UsageError(f"{text!r:.80} is no data disk", resolution="write NAME:/MOUNT, such as nvme1n1:/mnt/data")
    return find_disk(machine, name), mount


def _door(name: str, kind: str) -> Door:
    try:
        door = Door(name)
    except ValueError as error:
        raise UsageError(f"there is no door {name}", resolution=f"use one of {', '.join(Door)}") from error
    if door not in OPENS[kind]:
        raise UsageError(
            f"driver {kind} does not open door {name}", resolution=f"use one of {', '.join(sorted(OPENS[kind]))}"
        )
    return door
