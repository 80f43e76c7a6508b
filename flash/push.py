"""Push: render the host's config, send it, and prove that it is current. Nothing else changes a host between flashes."""

from dataclasses import dataclass

from flash.access import HostAccess, held_access
from flash.config import render_bundle
from flash.generations import next_generation
from flash.inventory import load_environment, load_host
from flash.secrets import resolve_secrets
from flash.trust import load_installed
from qtrade.errors import HostError
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.trust.keyring import ensure_keyring


@dataclass(frozen=True)
class PushResult:
    """What a push did: the generation and the units that it restarted or reloaded."""

    host: str
    generation: str
    units: tuple[str, ...]
    secrets: tuple[str, ...]


def push(settings: Settings, host_name: str, reporter: Reporter) -> PushResult:
    """Push config and secrets to a running host. Raises `HostError` when the host does not take them."""
    store, host = open_store(settings), load_host(settings, host_name)
    with held_access(settings, store, host, reporter) as access:
        return _push(access)


def _push(access: HostAccess) -> PushResult:
    settings, host, link = access.settings, access.host, access.link
    environment = load_environment(settings, host)
    status = link.status()
    if status["state"] != "persistent":
        raise HostError(
            f"{host.name} runs without its state partition: what is pushed now would be gone after the next boot",
            resolution="repair the partition, or flash the host, then push",
        )
    keyring = ensure_keyring(settings)
    image = load_installed(access.store, host.recipe, status["version"], keyring.trust)
    if image.image.id != status["image"]:
        raise HostError(
            f"{host.name} runs image {status['image'][:16]}…, which is not {host.recipe} {status['version']} of this store",
            resolution="use the store that the host was flashed from",
        )
    bundle = render_bundle(host, environment, image.image)
    secrets = resolve_secrets(settings, host, image.image)
    generation = next_generation(settings, host.name, seen=status["generation"])
    with access.reporter.step("push config"):
        report = link.run(access.jobs.apply(bundle.envelope(generation, access.jobs.key)))
    units = list(report["units"])
    if secrets:
        with access.reporter.step(f"push {len(secrets)} secrets"):
            units += link.run(access.jobs.secrets(secrets))["units"]
    after = link.status()["generation"]
    if after != str(generation):
        raise HostError(f"{host.name} runs config generation {after}, not {generation}")
    return PushResult(host.name, after, tuple(dict.fromkeys(units)), tuple(secrets))
