"""Ask the reference RPCs where the cluster is and what an identity voted last. What they say counts in slots, never in time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from flash.identity.facts import Chain

_ANSWER_S = 10.0


@dataclass(frozen=True)
class _Answer:
    slot: int
    finalized: int
    last_vote: int
    node: str


def ask_references(addresses: Sequence[str], vote_account: str, say: Callable[[str], None]) -> Chain:
    """Ask all references side by side; `say` is told of those that do not answer.

    Of slots and votes the highest counts, of what is final the lowest: a reference that lags or errs makes moves later, never earlier.
    """
    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        found = list(pool.map(lambda address: _ask_one(address, vote_account), addresses))
    for address, answer in zip(addresses, found, strict=True):
        if isinstance(answer, str):
            say(f"reference {address}: {answer}")
    told = [answer for answer in found if isinstance(answer, _Answer)]
    nodes = {answer.node for answer in told}
    return Chain(
        asked=len(addresses),
        answered=len(told),
        slot=max((answer.slot for answer in told), default=None),
        finalized=min((answer.finalized for answer in told), default=None),
        last_vote=max((answer.last_vote for answer in told), default=None),
        node=nodes.pop() if len(nodes) == 1 else None,
    )


def _ask_one(address: str, vote_account: str) -> _Answer | str:
    """Return what one reference tells, or why it tells nothing."""
    try:
        with httpx.Client(timeout=_ANSWER_S) as client:
            wanted = {"votePubkey": vote_account, "keepUnstakedDelinquents": True, "commitment": "processed"}
            accounts = _call(client, address, "getVoteAccounts", wanted)
            listed = [*accounts["current"], *accounts["delinquent"]]
            mine = [one for one in listed if one["votePubkey"] == vote_account]
            if not mine:
                return f"it knows no vote account {vote_account}"
            finalized = int(_call(client, address, "getSlot", {"commitment": "finalized"}))
            slot = int(_call(client, address, "getSlot", {"commitment": "processed"}))
            return _Answer(slot, finalized, int(mine[0]["lastVote"]), str(mine[0]["nodePubkey"]))
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return f"no answer of use ({type(error).__name__}: {error})"


def _call(client: httpx.Client, address: str, method: str, options: dict[str, Any]) -> Any:
    answer = client.post(address, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": [options]})
    answer.raise_for_status()
    document = answer.json()
    if "result" not in document:
        raise ValueError(str(document.get("error"))[:200])
    return document["result"]
