"""The log of votes, and the checker that finds whoever signed twice in it."""

import json
from dataclasses import dataclass
from pathlib import Path

# A vote that does not go on from the last one: that far behind it, no lockout of the last one is left that matters.
DISTANCE = 200


@dataclass(frozen=True)
class Vote:
    """A signed vote: by which process, for which slot, and after which vote its tower told it to go on (None: it had none)."""

    identity: str
    process: str
    slot: int
    after: int | None


def read_log(path: Path) -> list[Vote]:
    """Return the votes in the order in which they were signed."""
    return [Vote(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def find_double_signs(votes: list[Vote]) -> list[str]:
    """Return every vote that does not go on from the one before it: all votes of an identity have to be one chain.

    So a second signer is found whatever it votes for, and also one that comes after the first with an older tower.
    """
    found = []
    last: dict[str, Vote] = {}
    for vote in votes:
        before = last.get(vote.identity)
        if before is not None:
            goes_on = vote.after == before.slot and vote.slot > before.slot
            if not goes_on and vote.slot < before.slot + DISTANCE:
                found.append(
                    f"{vote.process} voted for {vote.slot} after {vote.after}, {before.process} for {before.slot} before it"
                )
        last[vote.identity] = vote
    return found
