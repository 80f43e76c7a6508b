"""What else changes a host stays away from one that signs."""

from flash.identity.claims import Claims
from qtrade.errors import Refused
from qtrade.store import Store

# The unit that signs. It always starts unstaked, and a reload restarts it.
SIGNER = "agave-validator.service"


def refuse_holder(store: Store, host: str) -> None:
    """Raise `Refused` when a host holds a staked identity, or is part of a move that has not ended.

    It would lose votes, and a fallback could bring back a disk whose tower is older than its last vote.
    """
    for claim in Claims(store.objects).held_by(host):
        verb = "has" if claim.host == host else "is about to have"
        raise Refused(
            f"{host} {verb} the staked identity {claim.identity} ({claim.state}, number {claim.number})",
            details="its validator signs, or may",
            resolution=f"move it first: `qtrade identity take --host OTHER`, or `qtrade identity release --host {claim.host}`",
        )
