"""How hosts are reached over SSH: their pinned keys and who logs in."""

import os
from dataclasses import replace
from pathlib import Path

from qtrade.errors import BadInput
from qtrade.manifest import Host
from qtrade.settings import Settings
from qtrade.ssh import SshTarget


def target_for(settings: Settings, host: Host, *, user: str | None = None) -> SshTarget:
    """Return how to reach `host` as its deploy user, or as `user`; a host key that only its manifest knows is pinned.

    Raises `BadInput` when the manifest names no key to log in with.
    """
    pin_of_manifest(settings, host)
    identity = host.ssh.identity_file
    if identity is None:
        raise BadInput(
            f"host {host.name}: ssh.identity_file is missing",
            resolution="name the private key that deploys log in with",
        )
    return SshTarget(
        host.name,
        host.address,
        host.ssh.port,
        user or host.ssh.user,
        identity,
        known_hosts_path(settings, host.name),
        settings.state_dir / "ssh",
    )


def operator_target(settings: Settings, host: Host) -> SshTarget:
    """Return how a person reaches `host`: as the operator, with a key of their own where there is one (QTRADE_SSH_IDENTITY).

    Else `ssh.operator_identity_file` serves, else the deploys' key. Raises `BadInput` when there is none.
    """
    target = target_for(settings, host, user=host.ssh.operator)
    named = os.environ.get("QTRADE_SSH_IDENTITY")
    own = Path(named).absolute() if named else host.ssh.operator_identity_file
    return replace(target, identity_file=own or target.identity_file)


def known_hosts_path(settings: Settings, host: str) -> Path:
    """Return the file with the pinned key of `host`."""
    return settings.state_dir / "known_hosts" / host


def pin_of_manifest(settings: Settings, host: Host) -> None:
    """Pin the key that the manifest names where none is pinned: what this machine has seen of the host itself counts for more."""
    if host.ssh.host_key and not known_hosts_path(settings, host.name).is_file():
        pin_host_key(settings, host.name, host.ssh.host_key)


def pin_host_key(settings: Settings, host: str, public_key: str) -> None:
    """Pin the SSH host key (`ssh-ed25519 AAAA…`) that the host's agent reported."""
    path = known_hosts_path(settings, host)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{host} {' '.join(public_key.split()[:2])}\n")
    fresh.replace(path)
