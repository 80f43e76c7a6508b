"""Load the image that a host is to run: its signatures hold, nothing revoked it, and the host's environment takes it."""

import time
from dataclasses import replace

from qtrade.errors import Refused
from qtrade.manifest import Environment, Host
from qtrade.store import Store
from qtrade.store.blocks import why_blocked
from qtrade.trust.images import VerifiedImage, load_image, load_trusted, signers_of, verify_blobs
from qtrade.trust.policy import Candidate, Channel, raise_refused, refuse_install, refuse_revoked, rules_for
from qtrade.trust.statements import verify_statements
from qtrade.trust.trust_set import TrustSet

__all__ = [
    "VerifiedImage",
    "check_not_revoked",
    "choose_version",
    "load_allowed",
    "load_image",
    "load_installed",
    "sequence_kept",
    "verify_blobs",
]


def load_allowed(
    store: Store, recipe: str, version: str, *, trust: TrustSet, environment: Environment
) -> VerifiedImage:
    """Return a version for a host of `environment`, with the promotion that the host will ask for.

    Raises `NotFound`, `TrustError` for an unsigned or altered image, `Refused` with all reasons of the policy.
    """
    published = store.read(recipe, version)
    loaded = load_trusted(published, recipe, version, trust)
    rules = rules_for(environment)
    statements = verify_statements(loaded.image.id, store.attestations(loaded.image.id), trust)
    blocked = why_blocked(store, loaded.image.id)
    candidate = Candidate(loaded.image, signers_of(published, trust.ever_built()), statements, blocked)
    raise_refused(
        f"{recipe} {version} must not run in {environment.name}",
        refuse_install(candidate, trust, rules, int(time.time())),
    )
    promotion = statements.promotion_for(rules.channel)
    if promotion is None:
        return loaded
    return replace(loaded, promotion=promotion[1], sequence=promotion[0].sequence)


def choose_version(store: Store, host: Host, environment: Environment) -> str:
    """Return where the environment's channel leads; in development, where nothing needs a promotion, the newest version."""
    channel = rules_for(environment).channel
    if channel != "dev":
        pointer = store.channel(host.recipe, channel)
        if pointer is None:
            raise Refused(
                f"channel {channel} of {host.recipe} leads nowhere",
                resolution=f"run `qtrade images promote VERSION --recipe {host.recipe} --to {channel}`",
            )
        return pointer.version
    versions = store.versions(host.recipe)
    if not versions:
        raise Refused(
            f"the store has no image of {host.recipe}",
            resolution=f"run `qtrade bake --recipe {host.recipe} --version …`",
        )
    return versions[-1]


def load_installed(store: Store, recipe: str, version: str, trust: TrustSet) -> VerifiedImage:
    """Return a version that a host holds already: signed and not revoked is enough to push to it or to go back to it.

    Raises `NotFound`, `TrustError` for an unsigned or altered image, `Refused` for a revoked one.
    """
    published = store.read(recipe, version)
    loaded = load_trusted(published, recipe, version, trust)
    check_not_revoked(store, loaded.image.id, trust)
    return loaded


def check_not_revoked(store: Store, image_id: str, trust: TrustSet) -> None:
    """Raise `Refused` when the image was revoked."""
    statements = verify_statements(image_id, store.attestations(image_id), trust)
    raise_refused(f"image {image_id[:16]} must not be used", refuse_revoked(statements))


def sequence_kept(store: Store, host_name: str, trust: TrustSet, channel: Channel) -> int:
    """Return the highest sequence of the images that a host kept when it was flashed last, 0 for none: for a host that does not answer."""
    found = (verify_statements(one, store.attestations(one), trust) for one in store.host_images(host_name))
    promotions = (statements.promotion_for(channel) for statements in found)
    return max((one[0].sequence for one in promotions if one is not None), default=0)
