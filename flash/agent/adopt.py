"""Takes a newer trust set into use on a running host, without making unbootable what boots now.

The initramfs takes keys from `trust/<keyid>.pem` and knows nothing of sets. So a revoked key is refused for everything new at
once, while its file stays until the default image and the running one are signed by other keys.
"""

from pathlib import Path
from typing import Set

from . import admission, boot, durable, ed25519, images, mounts
from .errors import AgentError
from .host import Host
from .trust import TrustSet, read_held, write_held


def adopt(host: Host, trust: TrustSet, environment: str) -> str:
    """Keep a set that `trust.choose` chose, and the stricter environment. Returns the environment. Raises `AgentError`."""
    held = read_held(host.system)
    if trust.sequence < held.sequence:
        raise AgentError(
            "trust-older", f"another job brought trust set {held.sequence} meanwhile", "send the job again"
        )
    before = admission.read_environment(host.system)
    wanted = admission.stricter(before, environment)
    admission.check_environment(wanted, trust)
    is_changed = trust.sequence != held.sequence or wanted != before
    if is_changed:
        with mounts.writable(host.system) as system:
            add_boot_keys(system, trust)
            write_held(system, trust)
            admission.write_environment(system, wanted)
    if is_changed or _stale(host.system, trust):
        settle(host, trust)
    return wanted


def settle(host: Host, trust: TrustSet) -> None:
    """Disarm what may not boot any more; once the default and the running image are trusted, drop all other images and keys."""
    with host.esp() as esp:
        state = boot.read_state(esp)
        if state.once and not admission.is_trusted(host.system, state.once, trust):
            boot.write_once(esp, "", state.tries)
        if not all(admission.is_trusted(host.system, one, trust) for one in {state.default, host.image_id}):
            return
        gone = {one for one in images.listed(host.system) if not admission.is_trusted(host.system, one, trust)}
        if state.previous in gone:
            boot.write_default(esp, state.default, "")
    if gone or _stale(host.system, trust):
        with mounts.writable(host.system) as system:
            if gone:
                images.collect(system, set(images.listed(system)) - gone)
            drop_boot_keys(system, trust)


def add_boot_keys(system: Path, trust: TrustSet) -> None:
    """Let the initramfs take images of all builders of the set."""
    folder = system / "trust"
    folder.mkdir(exist_ok=True)
    for keyid, raw in trust.builders.items():
        if not (folder / f"{keyid}.pem").is_file():
            durable.write_file(folder / f"{keyid}.pem", ed25519.pem(raw))


def drop_boot_keys(system: Path, trust: TrustSet) -> None:
    """Let the initramfs take images of no others."""
    durable.remove_all([system / "trust" / f"{keyid}.pem" for keyid in _stale(system, trust)])


def _stale(system: Path, trust: TrustSet) -> Set[str]:
    return {path.stem for path in (system / "trust").glob("*.pem")} - set(trust.builders)
