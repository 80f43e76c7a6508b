"""Write down what a fleet found out about an image: one signed statement each, beside the image in the store."""

import time

from qtrade.errors import NotFound
from qtrade.signing import STATEMENT_TYPE, SigningKey
from qtrade.store import Store
from qtrade.trust.fleet_facts import Bench, Integration, Rollout
from qtrade.trust.keyring import Keyring
from qtrade.trust.predicate import Predicate
from qtrade.trust.statements import BENCH, INTEGRATION, ROLLOUT, statement


def attest_rollout(  # noqa: PLR0913 - what a rollout knows at its end
    store: Store,
    keyring: Keyring,
    image_id: str,
    *,
    environment: str,
    version: str,
    hosts: tuple[str, ...],
    soak_s: int,
    rollout: str = "",
) -> Rollout:
    """Say that a rollout of the image was committed; a promotion to production asks for it. Called once, by the rollout, at its very end.

    `hosts` are all that run the image now, `soak_s` is the shortest time that one of them ran it under judgement. Raises `NotFound` where
    neither job nor build key is here.
    """
    said = Rollout(
        environment=environment,
        version=version,
        hosts=hosts,
        soak_s=soak_s,
        committed_at=int(time.time()),
        rollout=rollout,
    )
    _attest(store, keyring, image_id, ROLLOUT, said)
    return said


def attest_integration(store: Store, keyring: Keyring, image_id: str, said: Integration) -> None:
    """Say how the suite ended on the hosts, well or badly: the last word counts. Raises `NotFound` as `attest_rollout`."""
    _attest(store, keyring, image_id, INTEGRATION, said)


def attest_bench(store: Store, keyring: Keyring, image_id: str, said: Bench) -> None:
    """Keep a measurement, of a load that failed too. Raises `NotFound` as `attest_rollout`."""
    _attest(store, keyring, image_id, BENCH, said)


def deploy_key(keyring: Keyring) -> SigningKey:
    """Return the key that speaks for hosts. Raises `NotFound` where neither job nor build key is here, before anything is measured."""
    try:
        return keyring.signer("job")
    except NotFound:
        return keyring.signer("build")


def _attest(store: Store, keyring: Keyring, image_id: str, kind: str, said: Predicate) -> None:
    document = statement(image_id, kind, said.model_dump(mode="json"))
    store.attest(image_id, deploy_key(keyring).envelope(STATEMENT_TYPE, document))
