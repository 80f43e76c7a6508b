"""Rollback: make an installed version the default and boot it. Moves the boot entry only; nothing is downloaded."""

from dataclasses import dataclass
from typing import Any

from flash.access import Evidence, HostAccess, held_access
from flash.deploys import recorded_deploy
from flash.identity.guard import refuse_holder
from flash.inventory import load_host
from flash.ladder import reboot
from flash.trust import check_not_revoked, load_installed
from flash.written_data import find_installed, refuse_far_data
from qtrade.errors import HostError, Refused
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.history import Ending, Kind, Outcome
from qtrade.trust.keyring import ensure_keyring


@dataclass(frozen=True)
class RollbackResult:
    """How a rollback ended; `bytes_fetched` is what the host downloaded for it, `boot` which rung of the ladder booted it."""

    host: str
    version: str
    image: str
    bytes_fetched: int
    boot: Evidence


def rollback(settings: Settings, host_name: str, reporter: Reporter, *, to: str | None = None) -> RollbackResult:
    """Boot the previous version, or version `to`, which must be installed. Raises `Refused`, `HostError`."""
    store, host = open_store(settings), load_host(settings, host_name)
    with held_access(settings, store, host, reporter) as access:
        refuse_holder(store, host.name)
        return _roll_back(access, to=to)


def _roll_back(access: HostAccess, *, to: str | None) -> RollbackResult:
    settings, store, host = access.settings, access.store, access.host
    access.check_login()
    status = access.link.status()
    keyring = ensure_keyring(settings)
    # An image that was never committed is left for the default, not for the one before it.
    committed = status["image"] in (status["default"], status["previous"])
    wanted = status["previous"] if committed else status["default"]
    if to:
        wanted = load_installed(store, host.recipe, to, keyring.trust).image.id
    if not wanted or wanted not in status["installed"]:
        raise Refused(
            f"{host.name} has no {f'version {to}' if to else 'previous version'} installed",
            details=f"installed: {', '.join(image[:16] for image in status['installed'])}",
            resolution="flash that version instead",
        )
    check_not_revoked(store, wanted, keyring.trust)
    if wanted == status["image"]:
        raise Refused(f"{host.name} runs that version already", resolution="name another with --to")
    _require_config(status, host.name, wanted)
    image = find_installed(store, host.recipe, wanted)
    if image is not None:
        refuse_far_data(settings, host, image, status)
    inputs = {"to": to or "", "before": {"version": status["version"], "image": status["image"]}}
    version = image.version if image is not None else to or ""
    with recorded_deploy(access, Kind.ROLLBACK, version=version, image=wanted, inputs=inputs) as progress:
        result = _boot(access, wanted, status["boot_id"])
        progress.ending = Ending(Outcome.DONE, version=result.version, image=result.image)
    return result


def _boot(access: HostAccess, wanted: str, boot_id: str) -> RollbackResult:
    """Make the image the default and boot it. Raises `HostError`."""
    host = access.host.name
    report = access.link.run(access.jobs.commit(wanted, require_running=False))
    after, how = reboot(access, boot_id, what="the boot of the earlier version")
    if after["image"] != wanted:
        raise HostError(f"{host} runs {after['image'][:16]}…, not {wanted[:16]}…", resolution="look at its console")
    return RollbackResult(host, after["version"], after["image"], report["bytes_fetched"], how)


def _require_config(status: dict[str, Any], host: str, wanted: str) -> None:
    """Raise `Refused` when the host keeps no config generation that the image fits; older agents do not say."""
    generations = status.get("generations")
    if generations is not None and wanted not in generations:
        raise Refused(
            f"{host} keeps no config generation for {wanted[:16]}…: it would boot without addresses and keys",
            details="generations: "
            + (", ".join(f"{one[:16]}… {number}" for one, number in generations.items()) or "none"),
            resolution="flash that version instead; it brings its config along",
        )
