"""Push: render the host's config, send it, and prove that it is current. Nothing else changes a host between flashes."""

from dataclasses import dataclass

from flash.agent_link import AgentLink
from flash.config import render_bundle
from flash.generations import next_generation
from flash.inventory import load_environment, load_host
from flash.jobs import JobBuilder
from flash.lease import lease
from flash.secrets import resolve_secrets
from flash.ssh import target_for
from flash.trust import load_installed
from qtrade.errors import HostError
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store, open_store
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
    store = open_store(settings)
    with lease(settings, store, host_name, reporter) as held:
        return _push(settings, store, host_name, reporter, token=held.token)


def _push(settings: Settings, store: Store, host_name: str, reporter: Reporter, *, token: int) -> PushResult:
    host = load_host(settings, host_name)
    environment = load_environment(settings, host)
    link = AgentLink(target_for(settings, host))
    status = link.status()
    if status["state"] != "persistent":
        raise HostError(
            f"{host.name} runs without its state partition: what is pushed now would be gone after the next boot",
            resolution="repair the partition, or flash the host, then push",
        )
    keyring = ensure_keyring(settings)
    image = load_installed(store, host.recipe, status["version"], keyring.trust)
    if image.image.id != status["image"]:
        raise HostError(
            f"{host.name} runs image {status['image'][:16]}…, which is not {host.recipe} {status['version']} of this store",
            resolution="use the store that the host was flashed from",
        )
    bundle = render_bundle(host, environment, image.image)
    secrets = resolve_secrets(settings, host, image.image)
    jobs = JobBuilder(host, keyring, token=token)
    generation = next_generation(settings, host.name, seen=status["generation"])
    with reporter.step("push config"):
        report = link.run(jobs.apply(bundle.envelope(generation, jobs.key)))
    units = list(report["units"])
    if secrets:
        with reporter.step(f"push {len(secrets)} secrets"):
            units += link.run(jobs.secrets(secrets))["units"]
    after = link.status()["generation"]
    if after != str(generation):
        raise HostError(f"{host.name} runs config generation {after}, not {generation}")
    return PushResult(host.name, after, tuple(dict.fromkeys(units)), tuple(secrets))
