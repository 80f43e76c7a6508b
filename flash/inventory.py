"""Find the manifests of hosts, their environments and the staked identities."""

from ipaddress import ip_address
from pathlib import Path

from qtrade.errors import BadInput, NotFound, Refused, near_miss
from qtrade.manifest import Environment, Host, Identity, Image, load_environment_named, load_manifest
from qtrade.manifest.host import Ssh
from qtrade.settings import Settings

IDENTITIES = "manifests/identities"


def load_host(settings: Settings, name: str) -> Host:
    """Return host `name`: of manifests/hosts, or of the lab. Raises `BadInput`, or `NotFound`, naming the hosts that there are."""
    for path in _candidates(settings, name):
        if path.is_file():
            host = load_manifest(Host, path)
            if host.name != name:
                raise BadInput(
                    f"{path} is the manifest of {host.name}, not of {name}",
                    details=f"  {path}: name: {host.name}",
                    resolution=f"correct `name` there, or call the file {host.name}.yaml",
                )
            return _with_identity(settings, host)
    known = list_hosts(settings)
    cure = f"write manifests/hosts/{name}.yaml, or run `qtrade lab up` for a virtual one"
    meant = near_miss(name, known)
    raise NotFound(
        f"there is no host {name}",
        details=f"known hosts: {', '.join(known) or 'none'}",
        resolution=f"did you mean {meant}? Else {cure}" if meant else cure,
    )


def find_host(settings: Settings, text: str) -> Host:
    """Return the host of that name, or the one whose manifest alone lists that address. Raises `NotFound`, `Refused`, `BadInput`."""
    names = list_hosts(settings)
    if text in names:
        return load_host(settings, text)
    wanted = _address(text)
    found = [host for host in (load_host(settings, name) for name in names) if wanted in _addresses(host)]
    if len(found) > 1:
        raise Refused(
            f"{text} stands in the manifests of {', '.join(host.name for host in found)}: it is not known which one is meant",
            resolution="name the host",
        )
    if not found:
        raise NotFound(
            f"no host has the name or the address {text}",
            details=f"known hosts: {', '.join(names) or 'none'}",
            resolution="name a host of manifests/hosts, or an address that exactly one of them lists",
        )
    return found[0]


def _addresses(host: Host) -> set[str]:
    """Return what the manifest says the host is reached by: `address`, and its own addresses without their prefix lengths."""
    own = host.config.get("bare_metal_addresses")
    listed = [str(one).partition("/")[0] for one in own] if isinstance(own, list) else []
    return {_address(one) for one in (host.address, *listed)}


def _address(text: str) -> str:
    """Return an address in its one shortest form (IPv6 has many); a name as it is."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text.lower()


def _with_identity(settings: Settings, host: Host) -> Host:
    """Return the host with the private key of this machine in place of the manifest's, where there is one."""
    if settings.deploy_identity is None:
        return host
    return host.model_copy(update={"ssh": host.ssh.model_copy(update={"identity_file": settings.deploy_identity})})


def check_alone(settings: Settings, host: Host) -> None:
    """Raise `BadInput` where another manifest has the host's address or one of its disks: one of the two is a mistake.

    Manifests that say nothing of these are not parsed, and a fault of another is not this host's.
    """
    own, path = _claims(host), settings.project / "manifests/hosts" / f"{host.name}.yaml"
    for other in sorted(path.parent.glob("*.yaml")) if path.is_file() else ():
        if other == path or not any(value in other.read_text(errors="replace") for _, value in own):
            continue
        try:
            shared = [claim for claim in own if claim in _claims(load_manifest(Host, other))]
        except BadInput:
            continue
        if shared:
            raise BadInput(
                f"{path} and {other} are of the same machine",
                details="\n".join(f"  both have {name} {value}" for name, value in shared),
                resolution="correct the one that is wrong, or remove it: a flash could reach the wrong host",
            )


def _claims(host: Host) -> list[tuple[str, str]]:
    """Return what only one host can have."""
    disks = (host.os_disk, *host.data_disks, *host.protected_disks)
    found = [("disk serial", disk.serial) for disk in disks if disk.serial]
    found += [("disk wwid", disk.wwid) for disk in disks if disk.wwid]
    # Hosts behind one address differ in the port.
    return [*found, *([("address", host.address)] if host.ssh.port == Ssh().port else [])]


def manifest_place(settings: Settings, host: Host) -> str:
    """Return the file that a host's manifest is in, for errors."""
    path = next((one for one in _candidates(settings, host.name) if one.is_file()), None)
    if path is None:
        return f"host {host.name}"
    return str(path.relative_to(settings.project)) if path.is_relative_to(settings.project) else str(path)


def list_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the names of all hosts."""
    written = {path.stem for path in (settings.project / "manifests/hosts").glob("*.yaml")}
    lab = {path.parent.name for path in (settings.state_dir / "lab").glob("*/host.yaml")}
    return tuple(sorted(written | lab))


def list_environments(settings: Settings) -> tuple[str, ...]:
    """Return the names of the project's environments."""
    return tuple(sorted(path.stem for path in (settings.project / "manifests/environments").glob("*.yaml")))


def load_environment(settings: Settings, host: Host) -> Environment:
    """Return the environment of a host. Raises `NotFound`, `BadInput`."""
    return environment_named(settings, host.environment)


def environment_named(settings: Settings, name: str) -> Environment:
    """Return the environment `name`. Raises `NotFound`, `BadInput`."""
    return load_environment_named(settings, name)


def load_identities(settings: Settings) -> tuple[Identity, ...]:
    """Return all identities. Raises `BadInput`, also for a key or a vote account that two of them have."""
    found: list[Identity] = []
    for path in sorted((settings.project / IDENTITIES).glob("*.yaml")):
        identity = load_manifest(Identity, path)
        if identity.name != path.stem:
            raise BadInput(f"{path} is the manifest of {identity.name}", resolution="correct `name` there")
        for other in found:
            if {other.address, other.vote_account} & {identity.address, identity.vote_account}:
                raise BadInput(
                    f"{path}: {other.name} has the same address or vote_account",
                    resolution="keep one manifest of the two",
                )
        found.append(identity)
    return tuple(found)


def check_allowed(host: Host, environment: Environment, image: Image) -> None:
    """Raise `Refused` when the environment does not allow the image on the host."""
    if image.name != host.recipe:
        raise Refused(
            f"host {host.name} runs images of recipe {host.recipe}, not {image.name}",
            resolution=f"correct `recipe` in the manifest of {host.name}, or name a version of {host.recipe}",
        )
    if image.has_standins and not environment.allow_standins:
        parts = ", ".join(component.name for component in image.components if component.standin)
        raise Refused(
            f"{image.name} {image.version} holds stand-ins, which {environment.name} does not allow",
            details=f"stand-ins: {parts}",
            resolution="flash an image that was baked from the production recipe",
        )


def _candidates(settings: Settings, name: str) -> tuple[Path, ...]:
    safe = Path(name).name
    return (settings.project / "manifests/hosts" / f"{safe}.yaml", settings.state_dir / "lab" / safe / "host.yaml")
