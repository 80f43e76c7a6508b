"""What is known when a staked identity moves: recorded, so that the verdict on it can be told again."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class StopKind(StrEnum):
    """How it is known that a host does not sign. A lease that ran out is none of these."""

    STATEMENT = (
        "statement"  # the host's own, over SSH with its pinned key, in answer to a number that it never saw before
    )
    POWER = "power"  # its BMC has shown it on, and then off twice
    SILENCE = "silence"  # nobody ever held it here; the cluster saw no vote of it for long enough


@dataclass(frozen=True)
class Votes:
    """What the files of one host say was voted. SHA-256 in hex; None: there is no such file. `fault` says why a tower is of no use."""

    host: str
    tower_sha256: str | None = None
    history_sha256: str | None = None
    last_vote: int | None = None
    fault: str = ""


@dataclass(frozen=True)
class HostState:
    """What a host says of itself. `running` is the identity that its validator has now, None where none runs.

    `fence` is the greatest number that it was given, `taken` the one under which it was last sent the staked key; both outlive boots.
    `challenge` is good for one order, in this boot and for a short time only.
    """

    host: str
    boot_id: str
    running: str | None
    unstaked: str
    minor: tuple[int, int]
    profile: str
    vote_account: str
    not_ready: tuple[str, ...]
    slot: int | None
    fence: int
    taken: int
    challenge: str
    votes: Votes


@dataclass(frozen=True)
class Stop:
    """Proof that a host has stopped signing.

    `clean`: it left the identity when it was told to, and its files have not changed since. `at_slot` is the highest slot that the
    references told afterwards: it voted for none above. `number` is that of the claim for which it was asked.
    """

    host: str
    kind: StopKind
    number: int
    at_slot: int | None
    clean: bool = False
    boot_id: str = ""
    taken: int = 0
    running: str | None = None
    power: tuple[str, ...] = ()
    votes: Votes | None = None
    last_vote: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for the claim."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Stop":
        """Read it. Raises `TypeError`, `ValueError`."""
        votes = fields.pop("votes", None)
        power = tuple(fields.pop("power", ()))
        return cls(
            **{**fields, "kind": StopKind(fields["kind"]), "power": power, "votes": Votes(**votes) if votes else None}
        )


@dataclass(frozen=True)
class Chain:
    """What the reference RPCs say. `slot` and `last_vote` are the highest that one of them tells, `finalized` the lowest.

    `node` is the identity that the vote account names; None where they do not agree, or know no such account.
    """

    asked: int
    answered: int
    slot: int | None = None
    finalized: int | None = None
    last_vote: int | None = None
    node: str | None = None


class ClaimState(StrEnum):
    """Where a staked identity is."""

    HELD = "held"  # `host` was sent the key, or is about to be
    MOVING = "moving"  # `host` is to stop, and has it until it is proven that it did
    RELEASED = "released"  # `host` has stopped, and nobody has it


@dataclass(frozen=True)
class Claim:
    """Who holds an identity. `number` grows with every change: a host takes no order with one that it has seen.

    `to` is whom a move is for. `given` is the number under which `host` was to get the key; `confirmed`: it has said that it runs it.
    `stop` is the proof of the last stop, `votes` the newest files that were known when the key was given. `by` and `at` (Unix seconds)
    are for people; nothing is decided by a clock. `nonce` tells two equal changes by two operators apart.
    """

    identity: str
    number: int
    state: ClaimState
    host: str
    to: str = ""
    given: int = 0
    confirmed: bool = False
    stop: Stop | None = None
    votes: Votes | None = None
    by: str = ""
    at: float = 0.0
    nonce: str = ""


@dataclass(frozen=True)
class Asked:
    """What the operator asks for, and what is given up for it."""

    host: str
    first: bool = False
    tower_lost: bool = False
    without_vote_history: bool = False


@dataclass(frozen=True)
class Facts:
    """Everything that a verdict on a take is made of. `fleet` are the other hosts of the manifest: None for one that does not answer.

    `files_at_hand`: whoever has the newest files has handed them over, or is the candidate.
    """

    identity: str
    vote_account: str
    asked: Asked
    claim: Claim | None
    candidate: HostState | None
    fleet: dict[str, HostState | None]
    chain: Chain
    stop: Stop | None = None
    lease_fault: str = ""
    open_flash: str = ""
    files_at_hand: bool = True
