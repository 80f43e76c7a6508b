"""Rollback: make an installed version the default and boot it. Moves the boot entry only; nothing is downloaded."""

from dataclasses import dataclass

from flash.access import Evidence, HostAccess, held_access
from flash.deploys import recorded_deploy
from flash.identity.guard import refuse_holder
from flash.inventory import load_host
from flash.ladder import reboot
from flash.rollback_guard import check_target, choose_target
from flash.trust import check_not_revoked
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
    target = choose_target(settings, store, host, status, to)
    check_not_revoked(store, target.id, ensure_keyring(settings).trust)
    if target.id == status["image"]:
        raise Refused(f"{host.name} runs that version already", resolution="name another with --to")
    check_target(settings, store, host, status, target)
    inputs = {"to": to or "", "before": {"version": status["version"], "image": status["image"]}}
    with recorded_deploy(access, Kind.ROLLBACK, version=target.version, image=target.id, inputs=inputs) as progress:
        result = _boot(access, target.id, status["boot_id"])
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
