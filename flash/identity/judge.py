"""The verdict on a take: a pure function of recorded facts. Every way to sign twice that is known has its refusal here."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from flash.identity.facts import Chain, Claim, Facts, Stop, StopKind, Votes

# Upstream's guide to failover: without its tower an identity waits this long after its last vote.
SAFE_DISTANCE = 200
# What readiness allows a host (agave_max_slot_lag); a validator that has not caught up panics on an identity (anza-xyz/agave#12867).
MOST_LAG = 100
# The first minor that keeps a vote history beside the tower.
HISTORY_SINCE = (4, 3)


class Code(StrEnum):
    """Why a take is refused."""

    LEASE_LOST = "lease-lost"
    FLASH_OPEN = "flash-open"
    NO_CANDIDATE = "candidate-silent"
    NOT_VALIDATOR = "candidate-no-validator"
    OTHER_VOTE_ACCOUNT = "candidate-other-vote-account"
    NOT_UNSTAKED = "candidate-not-unstaked"
    NOT_READY = "candidate-not-ready"
    LAGS = "candidate-lags"
    FENCED = "candidate-fenced"
    CHAIN_SILENT = "chain-silent"
    OTHER_NODE = "chain-other-node"
    NEVER_HELD = "never-held"
    HELD_BEFORE = "held-before"
    FLEET_SILENT = "fleet-silent"
    SECOND_SIGNER = "second-signer"
    NOT_STOPPED = "not-stopped"
    WRONG_STOP = "stop-of-another-host"
    STOP_RUNS = "stopped-host-runs-it"
    OLD_STOP = "stop-of-an-older-number"
    POWER_UNSEEN = "power-off-unseen"
    STOP_UNDATED = "stop-without-slot"
    NO_TOWER = "tower-missing"
    TOWER_AWAY = "tower-out-of-reach"
    FORGOT = "holder-forgot"
    FILES_CHANGED = "files-changed"
    STALE_TOWER = "tower-older-than-the-chain"
    STILL_SIGNS = "somebody-still-votes"
    TOWER_THERE = "tower-not-lost"
    NO_HISTORY = "vote-history-missing"
    HISTORY_UNREAD = "vote-history-unread"
    TOO_SOON = "too-soon"


@dataclass(frozen=True)
class Reason:
    """Why not, and what would change that."""

    code: Code
    text: str
    cure: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether the key may go to the candidate now. `votes` are the files that it is to sign on with, None: it begins anew.

    `wait_until` is the slot that has to be finalized first, where a distance is kept at all.
    """

    reasons: tuple[Reason, ...]
    votes: Votes | None = None
    wait_until: int | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def waits_only(self) -> bool:
        """Whether time alone, told by the cluster's slots, is missing."""
        return bool(self.reasons) and {reason.code for reason in self.reasons} == {Code.TOO_SOON}


def judge(facts: Facts) -> Verdict:
    """Say whether the candidate may sign. Pure."""
    votes = newest_votes(facts.claim, facts.stop)
    faults = tuple(_faults(facts, votes))
    goes_on = None if faults else votes
    wait_until = find_distance(facts.stop, facts.chain, goes_on)
    reasons = (
        *judge_before(facts).reasons,
        *_stop(facts),
        *_signers(facts, stopped=True),
        *_tower(facts, goes_on, faults),
        *_history_unread(facts, votes),
        *_distance(facts.chain, wait_until),
    )
    return Verdict(tuple(dict.fromkeys(reasons)), goes_on, wait_until)


def judge_before(facts: Facts) -> Verdict:
    """Say what speaks against the take before anybody was stopped for it: nobody stops signing for a host that cannot go on. Pure."""
    reasons = (*_own(facts), *_candidate(facts), *_chain(facts), *_claim(facts), *_signers(facts, stopped=False))
    return Verdict(tuple(dict.fromkeys(reasons)))


def newest_votes(claim: Claim | None, stop: Stop | None) -> Votes | None:
    """Return the files that hold the last vote: those of the host that stopped, or what it was to begin with if it never had the key."""
    if claim is None or stop is None or stop.kind is not StopKind.STATEMENT:
        return None
    if claim.given and stop.taken < claim.given and not claim.confirmed:
        return claim.votes
    return stop.votes


def is_kept(claim: Claim) -> bool:
    """Return whether a claim has proof that its host stopped after it was last given the key."""
    stop = claim.stop
    if stop is None or stop.host != claim.host or stop.number <= claim.given:
        return False
    return stop.running != claim.identity and (stop.kind is not StopKind.POWER or is_power_proof(stop.power))


def find_distance(stop: Stop | None, chain: Chain, votes: Votes | None) -> int | None:
    """Return the slot that must be finalized before anybody signs again; None after a clean stop whose files, `votes`, go on."""
    if stop is None or (stop.clean and votes is not None):
        return None
    known = [stop.at_slot, stop.last_vote, votes.last_vote if votes else None]
    if stop.kind is not StopKind.SILENCE:
        known.append(chain.last_vote)
    slots = [slot for slot in known if slot is not None]
    return max(slots) + SAFE_DISTANCE if slots else None


def _own(facts: Facts) -> Iterator[Reason]:
    if facts.lease_fault:
        yield Reason(
            Code.LEASE_LOST, facts.lease_fault, "see who holds the host (`qtrade hosts show`), then run it again"
        )
    if facts.open_flash:
        yield Reason(Code.FLASH_OPEN, facts.open_flash, "end the flash first (`qtrade flash --resume` or `--abort`)")


def _candidate(facts: Facts) -> Iterator[Reason]:
    host, state = facts.asked.host, facts.candidate
    if state is None:
        yield Reason(Code.NO_CANDIDATE, f"{host} does not answer", "start it, or take another host")
        return
    if state.profile != "validator":
        yield Reason(
            Code.NOT_VALIDATOR, f"{host} runs the profile {state.profile}", "flash an image whose validator votes"
        )
    if state.vote_account != facts.vote_account:
        shown = state.vote_account or "none"
        yield Reason(Code.OTHER_VOTE_ACCOUNT, f"{host} has the vote account {shown}", "set agave_vote_account and push")
    if state.running is None:
        yield Reason(Code.NOT_READY, f"{host}: its validator does not run", "start it and wait until it is ready")
    elif state.running != state.unstaked:
        yield Reason(
            Code.NOT_UNSTAKED, f"{host} runs as {state.running}, not as its unstaked self", "release that identity"
        )
    if state.not_ready:
        yield Reason(Code.NOT_READY, f"{host} is not ready: {'; '.join(state.not_ready)}", "wait until it is")
    if state.slot is None or facts.chain.slot is None:
        yield Reason(Code.LAGS, f"how far {host} is behind the cluster cannot be told", "see why it tells no slot")
    elif facts.chain.slot - state.slot > MOST_LAG:
        behind = facts.chain.slot - state.slot
        yield Reason(Code.LAGS, f"{host} is {behind} slots behind, {MOST_LAG} are allowed", "wait until it caught up")
    if facts.claim is not None and state.fence > facts.claim.number:
        yield Reason(
            Code.FENCED,
            f"{host} was given number {state.fence}, and the claim is at {facts.claim.number}: the store is not the one of before",
            "use the store that the last change was made with",
        )


def _chain(facts: Facts) -> Iterator[Reason]:
    chain = facts.chain
    known = (chain.slot, chain.finalized, chain.last_vote, chain.node)
    if chain.answered * 2 <= chain.asked or None in known:
        yield Reason(
            Code.CHAIN_SILENT,
            f"{chain.answered} of {chain.asked} reference RPCs tell the votes of {facts.vote_account}",
            "more than half must; correct reference_rpcs or vote_account in the identity's manifest",
        )
    if chain.node is not None and chain.node != facts.identity:
        yield Reason(
            Code.OTHER_NODE,
            f"the vote account {facts.vote_account} belongs to the identity {chain.node}",
            "correct address or vote_account in the identity's manifest",
        )


def _claim(facts: Facts) -> Iterator[Reason]:
    if facts.claim is None and not facts.asked.first:
        yield Reason(
            Code.NEVER_HELD,
            "this store knows no holder of the identity, so it cannot tell who signs with it now",
            "stop whoever does, make sure that this is the right store, then add --first",
        )
    if facts.claim is not None and facts.asked.first:
        yield Reason(
            Code.HELD_BEFORE, f"{facts.claim.host} held it before (number {facts.claim.number})", "drop --first"
        )
    if facts.claim is None:
        silent = sorted(host for host, state in facts.fleet.items() if state is None)
        if silent:
            yield Reason(
                Code.FLEET_SILENT,
                f"{', '.join(silent)} may hold it and cannot be asked",
                "start them, or correct `hosts`",
            )


def _signers(facts: Facts, *, stopped: bool) -> Iterator[Reason]:
    known = facts.claim.host if facts.claim is not None and not stopped else ""
    for host, state in facts.fleet.items():
        if state is not None and state.running == facts.identity and host != known:
            yield Reason(
                Code.SECOND_SIGNER,
                f"{host} runs the identity now",
                f"`qtrade identity release --host {host}`, and find out why",
            )


def _stop(facts: Facts) -> Iterator[Reason]:
    claim, stop = facts.claim, facts.stop
    if stop is None:
        who = claim.host if claim else "whoever held it"
        yield Reason(
            Code.NOT_STOPPED, f"nothing proves that {who} has stopped", "let it answer, or add --power-off-holder"
        )
        return
    if claim is None:
        if stop.kind is not StopKind.SILENCE:
            yield Reason(Code.WRONG_STOP, f"the proof is of {stop.host}, and nobody is known to hold it")
        return
    if stop.kind is StopKind.SILENCE or stop.host != claim.host:
        yield Reason(Code.WRONG_STOP, f"the proof is of {stop.host or 'nobody'}, the holder is {claim.host}")
    if stop.running == facts.identity:
        yield Reason(Code.STOP_RUNS, f"{stop.host} says that it runs the identity", "release it there")
    if stop.number <= claim.given:
        yield Reason(
            Code.OLD_STOP,
            f"the proof is of number {stop.number}, and {claim.host} was given the key under {claim.given} since",
        )
    if stop.kind is StopKind.POWER and not is_power_proof(stop.power):
        yield Reason(
            Code.POWER_UNSEEN,
            f"its BMC told {', '.join(stop.power) or 'nothing'}: not on, and then off twice",
            "a BMC that says off without the change may be wrong: see at the machine, or let the host answer",
        )


def is_power_proof(seen: tuple[str, ...]) -> bool:
    """Return whether power states as they were read show a host that went from on to off, and stayed so for two readings."""
    return len(seen) >= 3 and seen[-1] == seen[-2] == "Off" and "On" in seen[:-2]


def _faults(facts: Facts, votes: Votes | None) -> Iterator[Reason]:
    """Say why nobody may go on with these files."""
    claim, stop, last_vote = facts.claim, facts.stop, facts.chain.last_vote
    if stop is None:
        return
    if votes is None or votes.last_vote is None:
        fault = votes.fault if votes and votes.fault else "there is none that its last holder could hand over"
        yield Reason(
            Code.NO_TOWER,
            f"the tower is missing: {fault}",
            f"bring the holder back; or add --tower-lost, which waits {SAFE_DISTANCE} slots",
        )
        return
    if not facts.files_at_hand:
        yield Reason(
            Code.TOWER_AWAY,
            f"{votes.host} has the tower, and does not hand over the one that it told of",
            "start it; or add --tower-lost if its disk is gone",
        )
    if last_vote is not None and last_vote > votes.last_vote:
        yield Reason(
            Code.STALE_TOWER,
            f"the cluster has seen a vote for slot {last_vote}; the tower of {votes.host} ends with {votes.last_vote}",
            "it was rolled back, or somebody else votes: find who signs; add --tower-lost once nobody does",
        )
    kept = claim.stop if claim is not None and is_kept(claim) else None
    if kept and kept.kind is stop.kind is StopKind.STATEMENT and kept.votes != stop.votes:
        yield Reason(
            Code.FILES_CHANGED,
            f"the files of {stop.host} are not those that it told of when it stopped (number {kept.number})",
            "find out what changed them; add --tower-lost to go on without them",
        )
    reads = facts.candidate is not None and facts.candidate.minor >= HISTORY_SINCE
    if reads and not votes.history_sha256 and not facts.asked.without_vote_history:
        yield Reason(
            Code.NO_HISTORY,
            f"{votes.host} has no vote history for the identity",
            "find it; where the vote account never voted by Alpenglow's rules, add --without-vote-history (Agave checks that itself)",
        )


def _tower(facts: Facts, goes_on: Votes | None, faults: tuple[Reason, ...]) -> Iterator[Reason]:
    claim, stop = facts.claim, facts.stop
    if stop is None:
        return
    if claim is not None and claim.confirmed and stop.kind is StopKind.STATEMENT and stop.taken < claim.given:
        yield Reason(
            Code.FORGOT,
            f"{stop.host} ran it under number {claim.given} and knows only of {stop.taken}: its state is not the one of then",
            "cut its power instead (--power-off-holder --tower-lost)",
        )
    if goes_on is None:
        if not facts.asked.tower_lost and not facts.asked.first:
            yield from faults
        yield from _ends(facts, stop)
    elif facts.asked.tower_lost:
        yield Reason(
            Code.TOWER_THERE,
            f"{goes_on.host} has the tower, with the last vote {goes_on.last_vote}",
            "drop --tower-lost",
        )


def _ends(facts: Facts, stop: Stop) -> Iterator[Reason]:
    """Say why votes may not have ended with the stop, where no tower tells which was the last."""
    if stop.at_slot is None:
        yield Reason(Code.STOP_UNDATED, "no reference told a slot after the stop", "run it again once they answer")
    bound = stop.last_vote if stop.kind is StopKind.SILENCE else stop.at_slot
    last_vote = facts.chain.last_vote
    if bound is not None and last_vote is not None and last_vote > bound:
        yield Reason(
            Code.STILL_SIGNS,
            f"the cluster has seen a vote for slot {last_vote}, after slot {bound}, when it was stopped",
            "somebody signs with this key: find and stop it first",
        )


def _history_unread(facts: Facts, votes: Votes | None) -> Iterator[Reason]:
    if facts.candidate is None or votes is None or not votes.history_sha256 or facts.candidate.minor >= HISTORY_SINCE:
        return
    minor, since = (".".join(map(str, one)) for one in (facts.candidate.minor, HISTORY_SINCE))
    yield Reason(
        Code.HISTORY_UNREAD,
        f"{votes.host} has a vote history, which Agave {minor} does not heed",
        f"take a host with Agave {since} or later",
    )


def _distance(chain: Chain, wait_until: int | None) -> Iterator[Reason]:
    if wait_until is not None and chain.finalized is not None and chain.finalized < wait_until:
        yield Reason(
            Code.TOO_SOON,
            f"slot {wait_until} is not final yet, the cluster is at {chain.finalized}",
            "the command waits for it by itself",
        )
