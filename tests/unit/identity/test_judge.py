"""Every known way to sign twice is refused by the verdict, with its reason; the ways that are safe are not."""

from dataclasses import replace
from itertools import product

import pytest

from flash.identity.facts import Asked, Chain, Claim, ClaimState, Facts, HostState, Stop, StopKind, Votes
from flash.identity.judge import SAFE_DISTANCE, Code, is_power_proof, judge, judge_before

pytestmark = pytest.mark.unit

ID, VOTE = "Staked1111111111111111111111111111111111111", "Votes11111111111111111111111111111111111111"
TIP = 10_000
CHAIN = Chain(3, 3, slot=TIP, finalized=TIP - 32, last_vote=TIP - 1, node=ID)
VOTES = Votes("old-1", tower_sha256="a" * 64, last_vote=TIP - 1)


def state(host: str, **changes) -> HostState:
    unstaked = f"unstaked of {host}"
    made = HostState(
        host, f"boot of {host}", unstaked, unstaked, (4, 2), "validator", VOTE, (), TIP - 3, 5, 0, "c", Votes(host)
    )
    return replace(made, **changes)


CLAIM = Claim(ID, 7, ClaimState.MOVING, "old-1", to="new-1", given=5, confirmed=True)
STOP = Stop("old-1", StopKind.STATEMENT, 7, TIP, clean=True, taken=5, running="unstaked of old-1", votes=VOTES)
# Its power was cut a while ago, so that the distance has been kept.
POWER = Stop("old-1", StopKind.POWER, 7, TIP - 500, power=("On", "Off", "Off"))
QUIET = replace(CHAIN, last_vote=TIP - 500)
LOST = Asked("new-1", tower_lost=True)


def facts(**changes) -> Facts:
    made = Facts(
        ID, VOTE, Asked("new-1"), CLAIM, state("new-1"), {"old-1": state("old-1"), "third-1": None}, CHAIN, STOP
    )
    return replace(made, **changes)


def codes(given: Facts) -> set[Code]:
    return {reason.code for reason in judge(given).reasons}


def with_votes(stop: Stop = STOP, **changes) -> Stop:
    return replace(stop, votes=replace(VOTES, **changes))


SAFE = {
    "a clean hand-over": facts(),
    "a holder that is off, after the distance, its tower given up": facts(
        stop=POWER, asked=LOST, chain=QUIET, fleet={"old-1": None}
    ),
    "a holder that rebooted, on its own tower, after the distance": facts(
        stop=replace(with_votes(last_vote=TIP - 400), clean=False, at_slot=TIP - 400),
        chain=replace(CHAIN, last_vote=TIP - 400),
    ),
    "the same host again, which was stopped cleanly": facts(
        asked=Asked("old-1"), candidate=state("old-1"), fleet={"new-1": state("new-1")}
    ),
    "vote history to a version that heeds it": facts(
        stop=with_votes(history_sha256="b" * 64), candidate=state("new-1", minor=(4, 3))
    ),
    "from before Alpenglow to 4.3, as the operator says": facts(
        candidate=state("new-1", minor=(4, 3)), asked=Asked("new-1", without_vote_history=True)
    ),
    "a holder that never got the key: its predecessor's tower goes on": facts(
        claim=replace(CLAIM, confirmed=False, votes=replace(VOTES, host="third-1")),
        stop=replace(STOP, taken=2, votes=Votes("old-1")),
        chain=CHAIN,
    ),
    "the very first time, after the distance, all hosts asked": facts(
        claim=None,
        asked=Asked("new-1", first=True),
        fleet={"old-1": state("old-1")},
        stop=Stop("", StopKind.SILENCE, 0, TIP - 400, last_vote=TIP - 900),
        chain=replace(CHAIN, last_vote=TIP - 900),
    ),
}

DOUBLE_SIGNS = {
    # Two hosts.
    "two hosts: the holder still runs it": (facts(stop=replace(STOP, running=ID)), Code.STOP_RUNS),
    "two hosts: a third one runs it": (facts(fleet={"third-1": state("third-1", running=ID)}), Code.SECOND_SIGNER),
    "two hosts: the candidate has another staked identity": (
        facts(candidate=state("new-1", running="Other")),
        Code.NOT_UNSTAKED,
    ),
    "two hosts: the proof is of a host that is not the holder": (
        facts(stop=replace(STOP, host="third-1")),
        Code.WRONG_STOP,
    ),
    "two hosts: somebody outside the fleet signs, the tower says": (
        facts(chain=replace(CHAIN, last_vote=TIP)),
        Code.STALE_TOWER,
    ),
    # Stale tower.
    "stale tower: the cluster saw a later vote": (facts(stop=with_votes(last_vote=TIP - 2)), Code.STALE_TOWER),
    "stale tower: the holder never got the key, its predecessor's tower is older": (
        facts(
            claim=replace(CLAIM, confirmed=False, votes=replace(VOTES, last_vote=TIP - 50)), stop=replace(STOP, taken=2)
        ),
        Code.STALE_TOWER,
    ),
    "no tower": (facts(stop=replace(STOP, votes=Votes("old-1"))), Code.NO_TOWER),
    "a tower that is damaged": (facts(stop=with_votes(last_vote=None, fault="signature")), Code.NO_TOWER),
    "no tower, given up, but the distance is not kept": (
        facts(stop=replace(STOP, votes=Votes("old-1")), asked=LOST),
        Code.TOO_SOON,
    ),
    "a tower that is given up although it is there": (facts(asked=LOST), Code.TOWER_THERE),
    "stale tower: not the one that it told of when it stopped": (
        facts(claim=replace(CLAIM, stop=replace(STOP, number=6, votes=replace(VOTES, tower_sha256="c" * 64)))),
        Code.FILES_CHANGED,
    ),
    "stale tower: only an older one than that of the silent holder is at hand": (
        facts(files_at_hand=False),
        Code.TOWER_AWAY,
    ),
    # Missing vote history.
    "vote history missing in 4.3": (facts(candidate=state("new-1", minor=(4, 3))), Code.NO_HISTORY),
    "vote history that an older version does not heed": (
        facts(stop=with_votes(history_sha256="b" * 64)),
        Code.HISTORY_UNREAD,
    ),
    # Rollback: of the holder's disks or state, or of the store.
    "rollback: the holder's ledger came back from a copy": (
        facts(stop=with_votes(last_vote=TIP - 5000)),
        Code.STALE_TOWER,
    ),
    "rollback: the holder's state forgot that it had the key": (facts(stop=replace(STOP, taken=2)), Code.FORGOT),
    "rollback: the store is older than what the candidate was told": (
        facts(candidate=state("new-1", fence=9)),
        Code.FENCED,
    ),
    "rollback: the store is gone, and says that nobody ever held it": (
        facts(claim=None, stop=Stop("", StopKind.SILENCE, 0, TIP - 400, last_vote=TIP - 900)),
        Code.NEVER_HELD,
    ),
    "rollback: the store is gone, --first, and a holder signs": (
        facts(
            claim=None,
            asked=Asked("new-1", first=True),
            fleet={},
            stop=Stop("", StopKind.SILENCE, 0, TIP - 400, last_vote=TIP - 400),
        ),
        Code.STILL_SIGNS,
    ),
    "rollback: the store is gone, --first, and a host cannot be asked": (
        facts(
            claim=None, asked=Asked("new-1", first=True), stop=Stop("", StopKind.SILENCE, 0, TIP - 400, last_vote=TIP)
        ),
        Code.FLEET_SILENT,
    ),
    "first, and not quiet for long enough": (
        facts(
            claim=None,
            asked=Asked("new-1", first=True),
            fleet={},
            stop=Stop("", StopKind.SILENCE, 0, TIP - 100, last_vote=TIP - 900),
            chain=replace(CHAIN, last_vote=TIP - 900),
        ),
        Code.TOO_SOON,
    ),
    "first, although somebody held it": (facts(asked=Asked("new-1", first=True)), Code.HELD_BEFORE),
    # Lost lease.
    "lost lease of the candidate": (facts(lease_fault="the lease of new-1 is lost"), Code.LEASE_LOST),
    "the holder's lease ran out, and nothing else is known": (facts(stop=None), Code.NOT_STOPPED),
    # Partition.
    "partition: the holder is silent": (facts(stop=None, fleet={"old-1": None}), Code.NOT_STOPPED),
    "partition: the proof is older than the key": (facts(stop=replace(STOP, number=5)), Code.OLD_STOP),
    "partition: silence proves nothing about a known holder": (
        facts(stop=Stop("old-1", StopKind.SILENCE, 7, TIP - 900, last_vote=TIP - 900), asked=LOST),
        Code.WRONG_STOP,
    ),
    "partition: most references are out of reach": (facts(chain=replace(CHAIN, answered=1)), Code.CHAIN_SILENT),
    "partition: the references know no vote": (facts(chain=replace(CHAIN, last_vote=None)), Code.CHAIN_SILENT),
    # The holder rebooted.
    "the holder rebooted, and the distance is not kept": (facts(stop=replace(STOP, clean=False)), Code.TOO_SOON),
    "the holder rebooted without its last votes on the disk": (
        facts(stop=replace(with_votes(last_vote=TIP - 30), clean=False, at_slot=TIP - 400)),
        Code.STALE_TOWER,
    ),
    # A BMC that lies.
    "BMC: off, and the change was not seen": (
        facts(stop=replace(POWER, power=("Off", "Off", "Off")), asked=LOST, chain=QUIET),
        Code.POWER_UNSEEN,
    ),
    "BMC: off once only": (facts(stop=replace(POWER, power=("On", "Off")), asked=LOST, chain=QUIET), Code.POWER_UNSEEN),
    "BMC: on again": (
        facts(stop=replace(POWER, power=("On", "Off", "On", "Off")), asked=LOST, chain=QUIET),
        Code.POWER_UNSEEN,
    ),
    "BMC: it says off, and the host votes on": (facts(stop=POWER, asked=LOST, chain=CHAIN), Code.STILL_SIGNS),
    "BMC: it switched off the wrong host, which the holder tells": (
        facts(stop=POWER, asked=LOST, chain=QUIET, fleet={"old-1": state("old-1", running=ID)}),
        Code.SECOND_SIGNER,
    ),
    "power off, and the tower is not given up": (facts(stop=POWER, chain=QUIET), Code.NO_TOWER),
    "power off, and no slot is known of then": (
        facts(stop=replace(POWER, at_slot=None), asked=LOST, chain=QUIET),
        Code.STOP_UNDATED,
    ),
    # A candidate that cannot.
    "the candidate is silent": (facts(candidate=None), Code.NO_CANDIDATE),
    "the candidate does not vote": (facts(candidate=state("new-1", profile="rpc")), Code.NOT_VALIDATOR),
    "the candidate votes for another account": (
        facts(candidate=state("new-1", vote_account="Other")),
        Code.OTHER_VOTE_ACCOUNT,
    ),
    "the candidate has not caught up": (facts(candidate=state("new-1", not_ready=("behind",))), Code.NOT_READY),
    "the candidate's validator is down": (facts(candidate=state("new-1", running=None)), Code.NOT_READY),
    "the candidate is behind, and does not know it": (facts(candidate=state("new-1", slot=TIP - 500)), Code.LAGS),
    "the candidate is being flashed": (facts(open_flash="a flash of new-1 is open"), Code.FLASH_OPEN),
    "the vote account is of another identity": (facts(chain=replace(CHAIN, node="Other")), Code.OTHER_NODE),
}


@pytest.mark.parametrize("name", SAFE)
def test_what_is_safe_is_allowed(name) -> None:
    verdict = judge(SAFE[name])
    assert verdict.is_allowed, verdict.reasons


@pytest.mark.parametrize("name", DOUBLE_SIGNS)
def test_what_could_sign_twice_is_refused(name) -> None:
    given, code = DOUBLE_SIGNS[name]
    verdict = judge(given)
    assert code in {reason.code for reason in verdict.reasons}
    assert all(reason.text for reason in verdict.reasons)


def test_every_reason_has_a_scenario() -> None:
    assert set(Code) == {code for _, code in DOUBLE_SIGNS.values()}


def test_each_refusal_is_by_its_own_rule_alone_where_one_fact_is_wrong() -> None:
    """A rule that nothing else backs up would be missed if it went: most scenarios differ from a safe one in one fact."""
    alone = [name for name, (given, code) in DOUBLE_SIGNS.items() if codes(given) == {code}]
    assert len(alone) >= 30, sorted(set(DOUBLE_SIGNS) - set(alone))


def test_waiting_is_all_that_is_missing_after_a_reboot() -> None:
    given = facts(stop=replace(STOP, clean=False))
    verdict = judge(given)
    assert (verdict.waits_only, verdict.wait_until) == (True, TIP + SAFE_DISTANCE)
    later = judge(replace(given, chain=replace(CHAIN, slot=TIP + 230, finalized=TIP + SAFE_DISTANCE)))
    assert Code.TOO_SOON not in {reason.code for reason in later.reasons}


def test_the_distance_is_of_slots_and_no_clock_is_read() -> None:
    """Whatever time the claim was written at, by whoever's clock, the verdict is the same."""
    for at, clean in product((0.0, 1.9e9, 9e12), (True, False)):
        given = facts(claim=replace(CLAIM, at=at), stop=replace(STOP, clean=clean))
        assert judge(given) == judge(facts(stop=replace(STOP, clean=clean)))


def test_nobody_is_stopped_for_a_candidate_that_cannot() -> None:
    assert judge_before(facts(stop=None)).is_allowed
    for bad in (None, state("new-1", not_ready=("behind",)), state("new-1", running="Other"), state("new-1", fence=9)):
        assert not judge_before(facts(stop=None, candidate=bad)).is_allowed


def test_the_holder_itself_may_run_it_before_it_was_stopped() -> None:
    running = {"old-1": state("old-1", running=ID)}
    assert judge_before(facts(stop=None, fleet=running)).is_allowed
    assert Code.SECOND_SIGNER in codes(facts(fleet=running))


def test_allowed_means_all_of_these_at_once() -> None:
    """Over every combination of the facts that decide, whatever is allowed has a proof, an end of votes, and files or a distance."""
    stops = (
        None,
        *(replace(STOP, clean=clean, running=running) for clean in (True, False) for running in (ID, "u")),
        replace(STOP, votes=None, at_slot=TIP - 500),
        POWER,
        replace(POWER, power=("Off", "Off")),
        Stop("", StopKind.SILENCE, 7, TIP - 500, last_vote=TIP - 500),
    )
    claims = (None, CLAIM, replace(CLAIM, given=7), replace(CLAIM, confirmed=False))
    options = [Asked("new-1", first, lost) for first in (True, False) for lost in (True, False)]
    fleets = ({}, {"old-1": None}, {"third-1": state("third-1", running=ID)})
    chains = (CHAIN, QUIET, replace(QUIET, finalized=TIP - 350), replace(CHAIN, last_vote=TIP))
    allowed = 0
    for stop, claim, asked, fleet, chain in product(stops, claims, options, fleets, chains):
        verdict = judge(facts(stop=stop, claim=claim, asked=asked, fleet=fleet, chain=chain))
        if not verdict.is_allowed:
            continue
        allowed += 1
        assert stop is not None
        assert stop.running != ID
        assert all(one is None or one.running != ID for one in fleet.values())
        assert stop.kind is not StopKind.POWER or is_power_proof(stop.power)
        assert (claim is None) == (stop.kind is StopKind.SILENCE)
        goes_on = verdict.votes is not None and verdict.votes.last_vote >= chain.last_vote
        waited = chain.finalized >= stop.at_slot + SAFE_DISTANCE and chain.last_vote <= stop.at_slot
        assert (goes_on and stop.clean) or waited
        assert goes_on or asked.tower_lost or asked.first
    assert allowed >= 10
