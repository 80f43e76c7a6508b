"""Rollback: make an installed version the default and boot it. Moves the boot entry only; nothing is downloaded."""

from dataclasses import dataclass
from typing import Any

from flash.agent_link import AgentLink
from flash.inventory import load_host
from flash.jobs import JobBuilder
from flash.lease import lease
from flash.ssh import target_for
from flash.trust import check_not_revoked, load_installed
from flash.written_data import find_installed, refuse_far_data
from qtrade.errors import HostError, Refused
from qtrade.manifest import Host
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store, open_store
from qtrade.trust.keyring import ensure_keyring

_BOOT_DEADLINE_S = 900


@dataclass(frozen=True)
class RollbackResult:
    """How a rollback ended; `bytes_fetched` is what the host downloaded for it."""

    host: str
    version: str
    image: str
    bytes_fetched: int


def rollback(settings: Settings, host_name: str, reporter: Reporter, *, to: str | None = None) -> RollbackResult:
    """Boot the previous version, or version `to`, which must be installed. Raises `Refused`, `HostError`."""
    store, host = open_store(settings), load_host(settings, host_name)
    with lease(settings, store, host_name, reporter) as held:
        jobs = JobBuilder(host, ensure_keyring(settings), token=held.token)
        return _roll_back(settings, store, host, jobs, reporter, to=to)


def _roll_back(
    settings: Settings, store: Store, host: Host, jobs: JobBuilder, reporter: Reporter, *, to: str | None
) -> RollbackResult:
    link = AgentLink(target_for(settings, host))
    status = link.status()
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
    report = link.run(jobs.commit(wanted, require_running=False))
    link.run(jobs.simple("reboot"))
    link.disconnect()
    with reporter.step("boot of the earlier version"):
        after = link.wait_for_status(
            lambda now: now["boot_id"] != status["boot_id"],
            within_s=_BOOT_DEADLINE_S,
            what="the boot of the earlier version",
        )
    if after["image"] != wanted:
        raise HostError(
            f"{host.name} runs {after['image'][:16]}…, not {wanted[:16]}…", resolution="look at its console"
        )
    return RollbackResult(host.name, after["version"], after["image"], report["bytes_fetched"])


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
