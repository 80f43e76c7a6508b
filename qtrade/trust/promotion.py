"""A promotion as it is signed, and how a second operator approves one: both keys sign the very same bytes, as DSSE has it.

The approver signs the promotion that the channel would come to next, and leaves it in the store; whoever promotes signs it too.
"""

import getpass
import socket
from dataclasses import dataclass
from typing import Any

from qtrade.errors import NotFound, Refused, TrustError
from qtrade.signing import STATEMENT_TYPE, signers_of_envelope
from qtrade.store import ChannelPointer, Store
from qtrade.trust.fleet_facts import Approval
from qtrade.trust.keyring import DAY_S, Keyring
from qtrade.trust.policy import Channel
from qtrade.trust.statements import APPROVAL, PROMOTION, Statements, read_statement, statement
from qtrade.trust.trust_set import TrustSet, public_keys


@dataclass(frozen=True)
class PromotionPlan:
    """What a promotion will do; every check has passed. `expires` in Unix seconds; `before` is where the channel leads now.

    `tests_passed` are the kinds of tests that the image passed, those that no rule asks for among them; `approved_by` are the keys of the
    operators who have signed this very promotion before.
    """

    recipe: str
    version: str
    image_id: str
    image_json: str
    channel: Channel
    sequence: int
    expires: int
    before: ChannelPointer | None
    tests_passed: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approved:
    """An approval that counts: the promotion's envelope as it is signed so far, and by whose keys."""

    approval: Approval
    envelope: dict[str, Any]
    signers: frozenset[str]


def promotion_of(plan: PromotionPlan) -> dict[str, Any]:
    """Return the statement that lets the image in, as whoever runs this says it."""
    predicate = {
        "channel": plan.channel,
        "sequence": plan.sequence,
        "expires": plan.expires,
        "by": _who(),
        "recipe": plan.recipe,
        "version": plan.version,
        # Hosts read from image.json what is in an image; the image id does not cover it.
        "image_json": plan.image_json,
    }
    return statement(plan.image_id, PROMOTION, predicate)


def approve(store: Store, keyring: Keyring, plan: PromotionPlan, *, within_days: int, now: int) -> Approval:
    """Sign the promotion and leave it for another operator to promote within so many days.

    Raises `NotFound` without a promote key, `Refused` for a lab's, which counts in development only.
    """
    key = keyring.signer("promote")
    if keyring.trust.lab:
        raise Refused(
            "keys of a lab approve nothing", resolution="make keys with `qtrade keys init`, and bake with these"
        )
    said = Approval(
        channel=plan.channel,
        recipe=plan.recipe,
        version=plan.version,
        sequence=plan.sequence,
        expires=plan.expires,
        until=now + within_days * DAY_S,
        by=_who(),
        promotion=key.envelope(STATEMENT_TYPE, promotion_of(plan)),
    )
    document = statement(plan.image_id, APPROVAL, said.model_dump(mode="json"))
    store.attest(plan.image_id, key.envelope(STATEMENT_TYPE, document))
    return said


def find_approval(
    statements: Statements, trust: TrustSet, plan: PromotionPlan, own: str | None, now: int
) -> Approved | None:
    """Return the newest approval of this very promotion by somebody else than the key `own`, None where there is none that counts.

    One of an earlier number of the channel does not count: what was approved is what follows on what the channel led to then.
    """
    for approval in reversed(statements.approvals):
        if approval.until <= now or approval.sequence != plan.sequence or approval.channel != plan.channel:
            continue
        others = _signers(approval, trust, plan) - {own}
        if others:
            return Approved(approval, approval.promotion, frozenset(others))
    return None


def own_key(keyring: Keyring) -> str | None:
    """Return the id of the promote key that is here, None where there is none."""
    try:
        return keyring.signer("promote").public.keyid
    except (NotFound, TrustError):
        return None


def _signers(approval: Approval, trust: TrustSet, plan: PromotionPlan) -> frozenset[str]:
    """Return whose promote keys signed the promotion in an approval; nobody's where it is another promotion than the plan's.

    The approval's own fields are for people: only what stands in the promotion counts.
    """
    operators = public_keys(trust.promote)
    try:
        kind, found = read_statement(plan.image_id, approval.promotion, operators)
        signers = signers_of_envelope(approval.promotion, STATEMENT_TYPE, operators)
    except TrustError:
        return frozenset()
    wanted = {name: getattr(plan, name) for name in ("channel", "sequence", "recipe", "version", "image_json")}
    same = kind == PROMOTION and {name: found.get(name) for name in wanted} == wanted
    return signers if same and found.get("expires") == approval.expires else frozenset()


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
