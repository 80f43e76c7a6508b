"""What a host is to be like: from its image's document, its manifest, its environment, and the config that a push would send now."""

import hashlib
import re
from dataclasses import dataclass

from flash.config import Bundle, render_bundle
from flash.drift.observation import ConfigFacts
from flash.host_keys import read_pinned
from qtrade.manifest import Environment, Host, Image
from qtrade.settings import Settings

_FSTAB = "fstab"
_NETWORK = "network/10-host.network"
_VOTES = "agave_vote_account"


@dataclass(frozen=True)
class WantedMount:
    """A line of the host's fstab: `what` is a device or `UUID=…`."""

    what: str
    where: str
    type: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """What holds for one host. `files` are those of its config by path; `protected` are UUIDs of filesystems that are never mounted.

    `host_key` is the pinned one, empty where none is; `uses_dhcp` whether its network is given leases.
    """

    host: str
    image: Image
    host_cmdline: str
    files: dict[str, ConfigFacts]
    secrets: frozenset[str]
    mounts: tuple[WantedMount, ...]
    has_swap: bool
    protected: frozenset[str]
    host_key: str
    uses_dhcp: bool
    votes: bool


def expect(settings: Settings, host: Host, environment: Environment, image: Image) -> Expected:
    """Return what `host` is to be like while it runs `image`. Raises `BadInput` for config that cannot be rendered."""
    bundle = render_bundle(host, environment, image)
    texts = {file.path: file.content for file in bundle.files}
    data = {disk.fs_uuid: disk.mount for disk in host.data_disks if disk.fs_uuid}
    mounts = parse_fstab(texts.get(_FSTAB, ""))
    # The manifest knows disks that no line of fstab mounts: a role's unit may.
    wanted = {mount.where for mount in mounts}
    extra = tuple(WantedMount(f"UUID={uuid}", where, "", ()) for uuid, where in data.items() if where not in wanted)
    return Expected(
        host=host.name,
        image=image,
        host_cmdline=host.cmdline,
        files=config_facts(bundle),
        secrets=frozenset(host.secrets),
        mounts=mounts + extra,
        has_swap=bool(re.search(r"(?m)^\S+ \S+ swap ", texts.get(_FSTAB, ""))),
        protected=frozenset(disk.fs_uuid.lower() for disk in host.protected_disks if disk.fs_uuid),
        host_key=read_pinned(settings, host.name),
        uses_dhcp=bool(re.search(r"(?m)^DHCP=(?!no)", texts.get(_NETWORK, ""))),
        votes=may_vote(host, environment),
    )


def config_facts(bundle: Bundle) -> dict[str, ConfigFacts]:
    """Return the facts of each file of a bundle, owners by name."""
    return {
        file.path: ConfigFacts(
            sha256=hashlib.sha256(file.content.encode()).hexdigest(),
            mode=f"{int(file.mode, 8):04o}",
            owner=f"{file.owner}:{file.group}",
        )
        for file in bundle.files
    }


def parse_fstab(text: str) -> tuple[WantedMount, ...]:
    """Return what an fstab mounts; the root and swap are not in it."""
    rows = (line.split() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return tuple(
        WantedMount(row[0], row[1], row[2], tuple(row[3].split(",")))
        for row in rows
        if len(row) > 3 and row[2] != "swap" and row[1] != "/"
    )


def may_vote(host: Host, environment: Environment) -> bool:
    """Say whether the host's validator may vote: a reboot of it costs more than a pause."""
    config = {**environment.config, **environment.roles.get(host.role, {}), **host.config}
    return host.role == "validator" or bool(config.get(_VOTES))
