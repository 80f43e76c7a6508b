"""Promote and revoke versions: a statement that says so, and the channel that leads to it, moved by compare-and-swap."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from qtrade.errors import NotFound, TrustError, UsageError, choose_from
from qtrade.manifest import Image
from qtrade.manifest.image import image_id
from qtrade.signing import STATEMENT_TYPE, SigningKey, add_signature
from qtrade.store import ChannelPointer, Store
from qtrade.store.blocks import why_blocked
from qtrade.store.history import Deploy, Ending, Kind, Outcome, recorded
from qtrade.trust.images import load_trusted, signers_of
from qtrade.trust.keyring import DAY_S, Keyring
from qtrade.trust.policy import (
    CHANNELS,
    ENVIRONMENT_OF,
    Candidate,
    Channel,
    Rules,
    raise_refused,
    refuse_alone,
    refuse_promotion,
)
from qtrade.trust.promotion import PromotionPlan, find_approval, own_key, promotion_of
from qtrade.trust.refusal import Refusal
from qtrade.trust.statements import REVOCATION, Statements, statement, verify_statements


@dataclass(frozen=True)
class RevocationPlan:
    """The versions that a revocation is of, by their image ids, the first being the one that was named.

    `channels` are those that lead to one of them.
    """

    recipe: str
    reason: str
    versions: dict[str, str]
    channels: tuple[str, ...]


def parse_channel(name: str) -> Channel:
    """Return the channel of that name. Raises `UsageError`."""
    for channel in CHANNELS:
        if channel == name:
            return channel
    raise UsageError(f"there is no channel {name}", resolution=choose_from(name, CHANNELS))


def plan_promotion(  # noqa: PLR0913 - what a promotion is of
    store: Store, keyring: Keyring, rules: Rules, recipe: str, version: str, *, expires_days: int, now: int
) -> PromotionPlan:
    """Check a promotion to the channel of `rules`. Raises `NotFound`, `TrustError`, and `Refused` with all reasons.

    What another operator has approved is promoted as approved: until then, with that number.
    """
    plan, statements, refusals = _check(store, keyring, rules, recipe, version, expires_days=expires_days, now=now)
    own = own_key(keyring)
    approved = find_approval(statements, keyring.trust, plan, own, now)
    signers = approved.signers if approved else frozenset()
    lacking = refuse_alone(rules, keyring.trust, signers | {own or "whoever promotes"})
    raise_refused(f"{recipe} {version} cannot be promoted to {rules.channel}", (*refusals, *lacking))
    if approved is None:
        return plan
    return replace(plan, expires=approved.approval.expires, approved_by=tuple(sorted(signers)))


def plan_approval(  # noqa: PLR0913 - what a promotion is of
    store: Store, keyring: Keyring, rules: Rules, recipe: str, version: str, *, expires_days: int, now: int
) -> PromotionPlan:
    """Check what is to be approved, as `plan_promotion`: nobody puts a name under what lacks more than a second name."""
    plan, _, refusals = _check(store, keyring, rules, recipe, version, expires_days=expires_days, now=now)
    raise_refused(f"{recipe} {version} cannot be approved for {rules.channel}", refusals)
    return plan


def _check(  # noqa: PLR0913 - what a promotion is of
    store: Store, keyring: Keyring, rules: Rules, recipe: str, version: str, *, expires_days: int, now: int
) -> tuple[PromotionPlan, Statements, tuple[Refusal, ...]]:
    """Return the promotion, what is said of the image, and why it is refused. Raises `NotFound`, `TrustError`."""
    published = store.read(recipe, version)
    image = load_trusted(published, recipe, version, keyring.trust).image
    missing = [digest for digest in (*image.blobs(), image.installer.digest) if not store.has_blob(digest)]
    if missing:
        raise NotFound(
            f"{recipe} {version} is not whole: the store lacks {len(missing)} of its blobs",
            details="\n".join(missing),
            resolution="bake the version again, or copy the blobs into the store",
        )
    statements = verify_statements(image.id, store.attestations(image.id), keyring.trust)
    candidate = Candidate(
        image, signers_of(published, keyring.trust.ever_built()), statements, why_blocked(store, image.id)
    )
    refusals = refuse_promotion(candidate, keyring.trust, rules, now)
    before = store.channel(recipe, rules.channel)
    sequence = before.sequence + 1 if before else 1
    expires = now + expires_days * DAY_S
    digest = image_id(published.image_text)
    passed = statements.tests_passed()
    plan = PromotionPlan(recipe, version, image.id, digest, rules.channel, sequence, expires, before, passed)
    return plan, statements, refusals


def promote(store: Store, keyring: Keyring, plan: PromotionPlan, warn: Callable[[str], None] = lambda _: None) -> None:
    """Carry a promotion out. Raises `NotFound` without the promote key, `ConflictError` when the channel was moved meanwhile.

    The channel moves first: whoever loses the race leaves no statement behind. Cut off between the two, the channel leads to
    a version that hosts refuse until it is promoted again. It is recorded in the history; `warn` is told where its end could not be.
    """
    envelope = _sign(store, keyring, plan)
    pointer = ChannelPointer(plan.version, plan.image_id, plan.sequence)
    before = plan.before.version if plan.before else ""
    inputs: dict[str, Any] = {
        "channel": plan.channel,
        "sequence": plan.sequence,
        "expires": plan.expires,
        "before": before,
    }
    if plan.approved_by:
        inputs["approved_by"] = list(plan.approved_by)
    environment = ENVIRONMENT_OF[plan.channel]
    deploy = Deploy(Kind.PROMOTE, environment, "", plan.recipe, plan.version, plan.image_id, inputs)
    with recorded(store.objects, deploy, warn) as progress:
        store.move_channel(plan.recipe, plan.channel, pointer, plan.before)
        store.attest(plan.image_id, envelope)
        progress.ending = Ending(Outcome.DONE, version=plan.version, image=plan.image_id)


def _sign(store: Store, keyring: Keyring, plan: PromotionPlan) -> dict[str, Any]:
    """Return the promotion, signed: a new one, or the one that was approved, with our signature beside the others."""
    key = keyring.signer("promote")
    if not plan.approved_by:
        return key.envelope(STATEMENT_TYPE, promotion_of(plan))
    statements = verify_statements(plan.image_id, store.attestations(plan.image_id), keyring.trust)
    found = find_approval(statements, keyring.trust, plan, key.public.keyid, 0)
    if found is None:
        raise TrustError("the approval is no longer there", resolution="let another operator approve it again")
    return add_signature(found.envelope, STATEMENT_TYPE, key)


def plan_revocation(
    store: Store, recipe: str, version: str, *, reason: str, layers: tuple[str, ...] = (), descendants: bool = False
) -> RevocationPlan:
    """Return what a revocation is of. Raises `NotFound`, `UsageError`.

    Descendants are the versions of the same recipe that hold the very layers (by digest) of the version that `layers` names.
    """
    image = _read_image(store, recipe, version)
    versions = {version: image.id}
    if descendants:
        faulty = _faulty_layers(image, layers)
        for other in store.versions(recipe):
            found = _read_image(store, recipe, other)
            if faulty <= {layer.digest for layer in found.layers}:
                versions.setdefault(other, found.id)
    elif layers:
        raise UsageError("--layer names the layers that descendants share", resolution="add --descendants")
    pointers = {name: store.channel(recipe, name) for name in CHANNELS}
    ids = set(versions.values())
    channels = tuple(name for name, pointer in pointers.items() if pointer is not None and pointer.image_id in ids)
    return RevocationPlan(recipe, reason, versions, channels)


def revoke(store: Store, keyring: Keyring, plan: RevocationPlan, *, now: int) -> None:
    """Carry a revocation out; it is for good. Raises `NotFound` when neither promote nor build key is here."""
    key = _revoking_key(keyring)
    named, *others = plan.versions
    for version, digest in plan.versions.items():
        predicate = {"reason": plan.reason, "time": now, "descendants": others if version == named else []}
        store.attest(digest, key.envelope(STATEMENT_TYPE, statement(digest, REVOCATION, predicate)))


def is_revoked(store: Store, keyring: Keyring, digest: str) -> bool:
    """Say whether an image was revoked."""
    return bool(verify_statements(digest, store.attestations(digest), keyring.trust).revocations)


def _revoking_key(keyring: Keyring) -> SigningKey:
    """Return a key that may revoke: stopping something must not wait for the one that may let it pass."""
    try:
        return keyring.signer("promote")
    except NotFound:
        return keyring.signer("build")


def _faulty_layers(image: Image, roles: tuple[str, ...]) -> set[str]:
    digests = {layer.role: layer.digest for layer in image.layers}
    unknown = [role for role in roles if role not in digests]
    if unknown or not roles:
        raise UsageError(
            f"{image.name} {image.version} has no layer {unknown[0]}"
            if unknown
            else "the layers at fault are not named",
            details=f"its layers: {', '.join(digests)}",
            resolution="name each with --layer",
        )
    return {digests[role] for role in roles}


def _read_image(store: Store, recipe: str, version: str) -> Image:
    """Return the image document as it stands: what is revoked need not be sound."""
    published = store.read(recipe, version)
    try:
        image = Image.model_validate_json(published.image_text)
    except ValidationError as error:
        raise TrustError(f"{recipe} {version}: image.json is of another format", details=str(error)) from error
    # Hosts and channels go by the id of the list, whatever image.json claims.
    return image.model_copy(update={"id": image_id(published.list_text)})
