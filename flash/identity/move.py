"""Move a staked identity: stop whoever has it, prove it, keep the distance, write the claim, and only then send the key.

Every step leaves a claim from which the same command goes on. A claim is replaced only by who has read it, so of two operators one fails
before a host hears of him; and what was sent late is refused by the host, which has seen a greater number or has booted since.
"""

from dataclasses import dataclass, replace

from flash.identity.claims import Claims
from flash.identity.facts import Asked, Claim, ClaimState, Facts, HostState, Stop, StopKind, Votes
from flash.identity.judge import Verdict, is_kept, is_power_proof, judge, judge_before, newest_votes
from flash.identity.world import Order, VoteFiles, World
from qtrade.errors import HostError, NotFound, Refused
from qtrade.manifest import Identity


@dataclass
class Mover:
    """Moves one identity."""

    identity: Identity
    claims: Claims
    world: World
    power_off: bool = False
    window_s: float = 0

    def gather(self, asked: Asked, claim: Claim | None, stop: Stop | None = None) -> Facts:
        """Ask everybody."""
        states = self.world.look_at_all([host for host in self.identity.hosts if host != asked.host])
        # Last of the hosts, as its challenge is good for a short time.
        candidate = self.world.look_at(asked.host)
        lease_fault, open_flash = self.world.find_fault(asked.host)
        return Facts(
            self.identity.address,
            self.identity.vote_account,
            asked,
            claim,
            candidate,
            states,
            # After the hosts, and so are its votes: nobody seems to be behind or silent for having been asked first.
            self.world.look_at_chain(),
            stop,
            lease_fault,
            open_flash,
        )

    def take(self, asked: Asked) -> Claim:
        """Give the identity to a host. Raises `Refused` with every reason, `ConflictError`, `HostError`; run again, it goes on."""
        claim = self.claims.read(self.identity.address)
        facts = self.gather(asked, claim)
        if claim is not None and runs_it(claim, facts.candidate):
            # Also where a move away from it was begun: nobody else was sent the key for that.
            if claim.state is ClaimState.HELD and claim.confirmed:
                return claim
            # A proof that it had stopped was none, and must not serve when it is silent the next time.
            before = None if is_kept(claim) else claim.stop
            return self.claims.advance(claim, state=ClaimState.HELD, to="", confirmed=True, stop=before)
        refuse(asked.host, judge_before(facts))
        files: VoteFiles | None = {}
        if claim is None:
            stop: Stop | None = Stop("", StopKind.SILENCE, 0, facts.chain.slot, last_vote=facts.chain.last_vote)
        else:
            claim = self.claims.advance(claim, state=ClaimState.MOVING, to=asked.host)
            stop, said = self._stop(claim)
            if stop is not None and not is_kept(claim):
                claim = self.claims.advance(claim, stop=stop)
            files = self._fetch(claim, asked.host, newest_votes(claim, stop), said)
        facts, verdict = self._wait(asked, claim, stop, has_files=files is not None)
        refuse(asked.host, verdict)
        if facts.candidate is None:  # which the verdict has refused
            raise HostError(f"{asked.host} does not answer")
        held = self._hold(facts, verdict)
        votes = verdict.votes
        named = {"tower": votes.tower_sha256, "history": votes.history_sha256} if votes else {}
        digests = {kind: digest for kind, digest in named.items() if digest}
        order = Order(
            held.identity,
            held.number,
            facts.candidate.boot_id,
            facts.candidate.challenge,
            digests,
            (files or {}) if votes else {},
            lost=votes is None,
        )
        after = self.world.give(asked.host, order)
        if not runs_it(held, after):
            raise HostError(
                f"{asked.host} runs as {after.running} after it was given the key",
                resolution="read the validator's log; the same command tries again, safely",
            )
        return self.claims.advance(held, confirmed=True)

    def release(self, host: str) -> Claim:
        """Make a host stop signing, with proof. Raises `NotFound`, `Refused`, `ConflictError`, `HostError`; run again, it goes on."""
        claim = self.claims.read(self.identity.address)
        if claim is None:
            raise NotFound(f"nobody holds {self.identity.name}", resolution="take it first (`qtrade identity take`)")
        if claim.host != host:
            raise Refused(
                f"{host} does not hold {self.identity.name}: {claim.host} does ({claim.state}, number {claim.number})",
                resolution=f"release it with --host {claim.host}",
            )
        if claim.state is ClaimState.RELEASED:
            return claim
        claim = self.claims.advance(claim, state=ClaimState.MOVING, to="")
        stop, _ = self._stop(claim)
        if stop is None:
            raise Refused(
                f"nothing proves that {host} has stopped: it does not answer",
                details="a lease that ran out, or silence, is no proof",
                resolution="let it answer and run this again; or add --power-off-holder, after which its tower is lost",
            )
        if stop.running == self.identity.address or (stop.kind is StopKind.POWER and not is_power_proof(stop.power)):
            raise HostError(
                f"{host} may still sign: it runs as {stop.running}, its BMC told {', '.join(stop.power) or 'nothing'}",
                resolution="see at the machine; nobody else gets the identity before it has stopped",
            )
        return self.claims.advance(claim, state=ClaimState.RELEASED, stop=stop)

    def _stop(self, claim: Claim) -> tuple[Stop | None, VoteFiles]:
        """Return proof that the claim's host has stopped, if there is any: its word, the proof of before, or its power."""
        said = self.world.release(claim.host, claim.number, window_s=self.window_s)
        kept = claim.stop if is_kept(claim) else None
        if said is not None:
            stop, files = said
            # It stopped when it first said so, if nothing has changed since.
            same = kept is not None and kept.kind is StopKind.STATEMENT and kept.votes == stop.votes
            return replace(stop, at_slot=kept.at_slot if kept and same else self._slot()), files
        if kept is not None or not self.power_off:
            return kept, {}
        seen = self.world.cut_power(claim.host)
        return Stop(claim.host, StopKind.POWER, claim.number, self._slot(), power=seen), {}

    def _slot(self) -> int | None:
        return self.world.look_at_chain().slot

    def _wait(self, asked: Asked, claim: Claim | None, stop: Stop | None, *, has_files: bool) -> tuple[Facts, Verdict]:
        """Look and judge, again and again while only slots are missing."""
        while True:
            facts = replace(self.gather(asked, claim, stop), files_at_hand=has_files)
            verdict = judge(facts)
            if not verdict.waits_only:
                return facts, verdict
            self.world.say(f"waiting for slot {verdict.wait_until}; final is {facts.chain.finalized}")
            if not self.world.pause():
                return facts, verdict

    def _fetch(self, claim: Claim, candidate: str, votes: Votes | None, said: VoteFiles) -> VoteFiles | None:
        """Return the files that the candidate is to get, None where they are out of reach.

        They are those that the claim's host handed over when it stopped (`said`), or those of the host that stopped before it.
        """
        if votes is None or votes.host == candidate:
            return {}
        if votes.host == claim.host:
            return said or None
        answer = self.world.release(votes.host, claim.number)
        return answer[1] if answer is not None and answer[0].votes == votes else None

    def _hold(self, facts: Facts, verdict: Verdict) -> Claim:
        """Write that the candidate has the identity, before it does. A new store counts on from what hosts were told before."""
        claim, host, stop, votes = facts.claim, facts.asked.host, facts.stop, verdict.votes
        if claim is not None:
            given = claim.number + 1
            return self.claims.advance(
                claim, state=ClaimState.HELD, host=host, to="", given=given, confirmed=False, stop=stop, votes=votes
            )
        known = (facts.candidate, *facts.fleet.values())
        number = max(state.fence for state in known if state is not None) + 1
        return self.claims.begin(
            Claim(self.identity.address, number, ClaimState.HELD, host, given=number, stop=stop, votes=votes)
        )


def runs_it(claim: Claim, state: HostState | None) -> bool:
    """Say whether the claim's host runs the identity because it was given the key for it, and nobody else was since."""
    return (
        claim.state is not ClaimState.RELEASED
        and state is not None
        and state.host == claim.host
        and state.running == claim.identity
        and state.taken == claim.given
    )


def refuse(host: str, verdict: Verdict) -> None:
    """Raise `Refused` with every reason."""
    if verdict.is_allowed:
        return
    first, *_ = verdict.reasons
    raise Refused(
        f"{host} must not sign: {first.text}",
        details="\n".join(f"  {reason.code}: {reason.text}" for reason in verdict.reasons),
        resolution="; ".join(dict.fromkeys(reason.cure for reason in verdict.reasons if reason.cure)),
    )
