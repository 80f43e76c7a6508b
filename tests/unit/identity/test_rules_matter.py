"""The checker of the vote log finds double signs; and each rule that is taken away brings some, so that none is there for show."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from flash.identity import judge, move
from flash.identity.facts import Asked, ClaimState, Facts
from flash.identity.judge import Code
from tests.fakes.identity_fleet import IDENTITY, STAKED, Controller, Fleet
from tests.fakes.votes import Vote, find_double_signs

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "votes",
    [
        [("a", 10, 9), ("b", 11, 9)],
        [("a", 10, 9), ("b", 10, 9)],
        [("a", 10, 9), ("b", 11, 10), ("a", 12, 10)],
        [("a", 10, 9), ("b", 8, 7)],
        [("a", 10, 9), ("b", 150, None)],
    ],
)
def test_the_checker_catches_a_planted_double_sign(votes) -> None:
    assert len(find_double_signs([Vote("x", process, slot, after) for process, slot, after in votes])) == 1


def test_the_checker_lets_hand_overs_be() -> None:
    assert not find_double_signs([Vote("x", "a", 10, 9), Vote("x", "b", 11, 10), Vote("x", "c", 211, None)])


def test_the_checker_catches_two_hosts_that_were_given_the_key_by_hand(fleet) -> None:
    for name in ("val-1", "val-2"):
        fleet.hosts[name].validator.set_voter(STAKED)
        fleet.hosts[name].validator.set_identity(STAKED)
    fleet.tick()
    assert len(find_double_signs(fleet.cluster.votes)) == 1


def take(fleet: Fleet, host: str, *, power_off: bool = False, **options: bool) -> Controller:
    done = fleet.command(lambda mover: mover.take(Asked(host, **options)), power_off=power_off).finish()
    for _ in range(5):
        fleet.tick(lands=1)
    return done


def partition(fleet: Fleet) -> None:
    fleet.hosts["val-1"].reachable = False
    take(fleet, "val-2", tower_lost=True)


def bmc_that_says_off(fleet: Fleet) -> None:
    fleet.hosts["val-1"].reachable = False
    fleet.hosts["val-1"].bmc = "says off"
    take(fleet, "val-2", tower_lost=True, power_off=True)


def bmc_that_does_nothing(fleet: Fleet) -> None:
    fleet.hosts["val-1"].reachable = False
    fleet.hosts["val-1"].bmc = "does nothing"
    take(fleet, "val-2", tower_lost=True, power_off=True)


def power_cut(fleet: Fleet) -> None:
    fleet.tick(lands=0)
    fleet.hosts["val-1"].lose_power(loses_write=True)
    fleet.hosts["val-1"].boot()
    take(fleet, "val-1")


def copied_ledger(fleet: Fleet) -> None:
    old = fleet.hosts["val-1"].tower(IDENTITY).read_bytes()
    for _ in range(5):
        fleet.tick(lands=1)
    fleet.command(lambda mover: mover.release("val-1")).finish()
    fleet.hosts["val-1"].tower(IDENTITY).write_bytes(old)
    take(fleet, "val-2")


def lost_store(fleet: Fleet) -> None:
    fleet.objects.delete(f"identities/{IDENTITY}.json")
    take(fleet, "val-2", first=True)


SCENARIOS: list[tuple[Callable[[Fleet], None], tuple[Code, ...]]] = [
    (partition, (Code.NOT_STOPPED,)),
    # A holder that votes on also puts the distance off, for ever.
    (bmc_that_says_off, (Code.POWER_UNSEEN, Code.STILL_SIGNS, Code.TOO_SOON)),
    (bmc_that_does_nothing, (Code.STILL_SIGNS, Code.TOO_SOON)),
    (power_cut, (Code.TOO_SOON,)),
    (copied_ledger, (Code.STALE_TOWER, Code.FILES_CHANGED, Code.TOO_SOON)),
    (lost_store, (Code.SECOND_SIGNER, Code.STILL_SIGNS)),
]


@pytest.mark.parametrize(("happens", "codes"), SCENARIOS, ids=lambda value: getattr(value, "__name__", ""))
def test_without_its_rule_a_scenario_signs_twice(happens, codes, fleet, monkeypatch) -> None:
    assert take(fleet, "val-1", first=True).error is None
    for name in ("judge", "judge_before"):
        monkeypatch.setattr(move, name, without(codes, getattr(judge, name)))
    happens(fleet)
    assert find_double_signs(fleet.cluster.votes)


@pytest.mark.parametrize(("happens", "codes"), SCENARIOS, ids=lambda value: getattr(value, "__name__", ""))
def test_with_its_rules_none_does(happens, codes, fleet) -> None:
    assert take(fleet, "val-1", first=True).error is None
    happens(fleet)
    assert find_double_signs(fleet.cluster.votes) == []


def without(codes: tuple[Code, ...], original: Callable[[Facts], judge.Verdict]) -> Callable[[Facts], judge.Verdict]:
    def judge_less(facts: Facts) -> judge.Verdict:
        verdict = original(facts)
        return replace(verdict, reasons=tuple(one for one in verdict.reasons if one.code not in codes))

    return judge_less


def sleep_before_the_order(fleet: Fleet) -> Controller:
    """Return a take of val-2 that has written the claim, and not sent the key yet."""
    command = fleet.command(lambda mover: mover.take(Asked("val-2")))
    while True:
        claim = fleet.claims.read(IDENTITY)
        if (claim.state, claim.host) == (ClaimState.HELD, "val-2"):
            return command
        command.step()


@pytest.mark.parametrize("is_kept", [True, False])
def test_numbers_hold_against_an_order_that_others_overtook(is_kept, fleet, monkeypatch) -> None:
    take(fleet, "val-1", first=True)
    if not is_kept:
        read = fleet.program.Host._read_record
        monkeypatch.setattr(fleet.program.Host, "_read_record", lambda host: {**read(host), "fence": -1})
    command = sleep_before_the_order(fleet)
    fleet.hosts["val-2"].ask(lambda host: host.release(fleet.claims.read(IDENTITY).number + 1))
    fleet.claims.advance(fleet.claims.read(IDENTITY), state=ClaimState.RELEASED)
    fleet.hosts["val-3"].validator.set_voter(STAKED)
    fleet.hosts["val-3"].tower(IDENTITY).write_bytes(fleet.hosts["val-1"].tower(IDENTITY).read_bytes())
    fleet.hosts["val-3"].validator.set_identity(STAKED)
    fleet.tick()
    command.finish()
    fleet.tick()
    assert bool(find_double_signs(fleet.cluster.votes)) != is_kept


@pytest.mark.parametrize("is_kept", [True, False])
def test_challenges_hold_against_an_order_that_slept(is_kept, fleet, monkeypatch) -> None:
    """Meanwhile the power of its host was cut, as proof for somebody else."""
    take(fleet, "val-1", first=True)
    if not is_kept:
        monkeypatch.setattr(fleet.program.Host, "_use_challenge", lambda host, order: None)
    command = sleep_before_the_order(fleet)
    fleet.hosts["val-2"].reachable = False
    assert take(fleet, "val-3", tower_lost=True, power_off=True).error is None
    fleet.hosts["val-2"].boot()
    fleet.hosts["val-2"].reachable = True
    command.finish()
    fleet.tick()
    assert bool(find_double_signs(fleet.cluster.votes)) != is_kept
