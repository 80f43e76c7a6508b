"""The integration suite of an image: every host of an environment that runs it is proven as `qtrade verify` does, roles' specs included.

How it ended is attested, well or badly; a promotion to production asks for the last word.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from flash.agent_link import AgentLink
from flash.inventory import list_hosts, load_host
from flash.ssh import target_for
from flash.trust import load_installed
from flash.verify import CheckState, VerifyResult, verify
from qtrade.errors import NotFound, QtradeError
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store, open_store
from qtrade.trust.attest import attest_integration, deploy_key
from qtrade.trust.fleet_facts import Integration
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.staging import STAGING

_TOLD = 300
# Without these a host that skips everything would pass.
_REQUIRED = frozenset({"image", "services", "specs"})


@dataclass(frozen=True)
class Runners:
    """Who runs the image, and who may but does not answer, with the reason."""

    running: tuple[str, ...]
    silent: dict[str, str]


def integrate(
    settings: Settings, recipe: str, version: str, reporter: Reporter, *, environment: str = STAGING
) -> Integration:
    """Run the suite and attest how it ended. Raises `NotFound` where no host runs the version, or no key is here to sign with."""
    store, keyring = open_store(settings), ensure_keyring(settings)
    deploy_key(keyring)
    image = load_installed(store, recipe, version, keyring.trust).image
    runners = find_runners(settings, store, recipe, image.id, environment)
    if not runners.running:
        raise NotFound(
            f"no host of {environment} runs {recipe} {version}",
            details="\n".join(f"  {name}: {why}" for name, why in runners.silent.items()),
            resolution=f"flash {environment}'s hosts with it, then run `qtrade images integrate {version} --recipe {recipe}`",
        )
    said = judge(runners, environment, version, lambda name: verify(settings, name, reporter, required=_REQUIRED))
    attest_integration(store, keyring, image.id, said)
    return said


def find_runners(settings: Settings, store: Store, recipe: str, image_id: str, environment: str) -> Runners:
    """Ask the hosts of the environment that run the recipe. Silent is who does not answer and, as far as the store knows, has the image."""
    running, silent = [], {}
    for name in list_hosts(settings):
        host = load_host(settings, name)
        if (host.environment, host.recipe) != (environment, recipe):
            continue
        try:
            status = AgentLink(target_for(settings, host)).status()
        except QtradeError as error:
            if image_id in store.host_images(name):
                silent[name] = error.brief
            continue
        if status.get("image") == image_id:
            running.append(name)
    return Runners(tuple(running), silent)


def judge(runners: Runners, environment: str, version: str, prove: Callable[[str], VerifyResult]) -> Integration:
    """Prove each host, and return how the suite ended. A host that may run the image and is silent has not passed."""
    failures = [f"{name}: does not answer: {why}"[:_TOLD] for name, why in runners.silent.items()]
    for name in runners.running:
        try:
            checks = prove(name).checks
        except QtradeError as error:
            failures.append(f"{name}: {error.brief}"[:_TOLD])
            continue
        failures += [
            f"{name}: {check.name}: {check.told}"[:_TOLD] for check in checks if check.state is CheckState.FAILED
        ]
    return Integration(
        environment=environment,
        version=version,
        hosts=runners.running,
        passed=not failures,
        failures=tuple(failures),
        at=int(time.time()),
    )
