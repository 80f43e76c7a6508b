"""`qtrade init`, `qtrade hosts add`: look at a machine, ask what only a person knows, and write its manifest."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flash.discovery.choices import Ask, Given, Place, ask_disks, ask_doors, ask_place
from flash.discovery.found import Machine
from flash.discovery.manifest import Doors, manifest_path, render_manifest, write_manifest
from flash.discovery.over_redfish import Bmc, discover_over_redfish
from flash.discovery.over_ssh import discover_over_ssh, pin, require_key, show_host_key
from qtrade.errors import BadInput, Refused, UsageError
from qtrade.manifest.driver import Door
from qtrade.process import as_root
from qtrade.settings import Settings
from qtrade.ssh import SshTarget

SOURCES = ("ssh", "redfish")


@dataclass(frozen=True)
class Look:
    """How to look: over `source` (the driver's own way if empty), and which host key fingerprint is expected (asked for if empty)."""

    source: str = ""
    fingerprint: str = ""
    verify_tls: bool = True


@dataclass(frozen=True)
class HostDraft:
    """A manifest that was made, and where it goes."""

    name: str
    path: Path
    text: str
    machine: Machine
    doors: tuple[Door, ...]


@dataclass(frozen=True)
class InitDocument:
    """What `qtrade init --json` prints. `next` are the commands that lead on; `keys_made` whether a trust set was made."""

    host: str
    path: str
    manifest: str
    machine: Machine
    written: bool
    keys_made: bool = False
    next: tuple[str, ...] = field(default=())


def draft_host(settings: Settings, given: Given, look: Look, ask: Ask, say: Callable[[str], None]) -> HostDraft:
    """Ask, look, ask again, and return the manifest; nothing is written. Raises the errors of each part."""
    if given.name is not None:
        manifest_path(settings, given.name)
    recipes = sorted(path.stem for path in settings.find_all("manifests/images", "*.yaml"))
    # Those that come with qtrade too: a folder of one's own begins with none.
    environments = sorted(path.stem for path in settings.find_all("manifests/environments", "*.yaml"))
    place = ask_place(given, ask, environments=environments, recipes=recipes)
    path = manifest_path(settings, place.name)
    machine = discover(place, look, ask, say)
    for disk in machine.disks:
        say(f"  {disk.describe()}")
    disks = ask_disks(given, ask, machine)
    names, url, mac = ask_doors(given, ask, str(place.driver["kind"]), machine)
    if names == (Door.IN_PLACE,):
        say(
            "door in_place needs a host that runs qtrade: before the first flash, give it another one (--netboot-url, --door)"
        )
    if not look.verify_tls:
        place.driver["verify_tls"] = False
    text = render_manifest(place, disks, Doors(names, url, mac), machine)
    return HostDraft(place.name, path, text, machine, names)


def discover(place: Place, look: Look, ask: Ask, say: Callable[[str], None]) -> Machine:
    """Look at the machine. Raises `UsageError`, `BadInput`, `HostError`, `TrustError`, `Refused`."""
    source = look.source or ("redfish" if place.driver["kind"] == "redfish" else "ssh")
    if source not in SOURCES:
        raise UsageError(f"nobody can look over {source}", resolution=f"use one of {', '.join(SOURCES)}")
    if source == "redfish":
        return discover_over_redfish(_bmc(place, look))
    if place.identity_file is None or not place.identity_file.is_file():
        raise BadInput(
            f"there is no key {place.identity_file}", resolution="name the private key that logs in: --identity"
        )
    with tempfile.TemporaryDirectory(prefix="qtrade-init-") as folder:
        known_hosts = Path(folder, "known_hosts")
        target = SshTarget(place.name, place.address, place.ssh_port, place.ssh_user, place.identity_file, known_hosts)
        key, shown = show_host_key(target)
        say(f"{place.address} shows the SSH host key {shown}")
        if look.fingerprint:
            require_key(look.fingerprint, key, place.name)
        else:
            question = "Is that what its console or its provider shows?"
            if ask(question, option=f"--host-key {shown}", among=("yes", "no")) != "yes":
                raise Refused(
                    "that host key is not trusted; nothing was done",
                    resolution="read the fingerprint at the host's console, then give it with --host-key",
                )
        pin(target, key)
        return discover_over_ssh(target, key)


def write_draft(draft: HostDraft) -> None:
    """Write the manifest. Raises `ConflictError` when there is one by now."""
    write_manifest(draft.path, draft.text)


def next_commands(draft: HostDraft, *, has_keys: bool, has_images: bool) -> tuple[str, ...]:
    """Return the commands that lead from the manifest to a host that runs."""
    steps = [] if has_keys else ["qtrade keys init"]
    steps.append("qtrade doctor")
    steps += [] if has_images else [as_root("qtrade bake --version 0.1.0")]
    return (*steps, f"qtrade flash --host {draft.name} --dry-run", f"qtrade flash --host {draft.name}")


def _bmc(place: Place, look: Look) -> Bmc:
    driver = place.driver
    if driver["kind"] != "redfish":
        raise UsageError(
            f"driver {driver['kind']} is no BMC", resolution="look over SSH, or use --driver redfish with its fields"
        )
    return Bmc(
        driver["url"],
        driver["username"],
        Path(driver["password_file"]),
        str(driver.get("system", "")),
        look.verify_tls,
    )
