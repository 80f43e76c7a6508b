"""The states of a flash and the legal moves between them."""

from itertools import pairwise, product

import pytest

from flash.states import ENDS, State, check_move, rules, sequence
from qtrade.errors import QtradeError
from qtrade.manifest.driver import Door

pytestmark = pytest.mark.unit

# All doors but in place lead where PXE does.
# Where a failure may lead from a state: the failure of that state's own work, or of the next one's, is journalled there.
FAILURES = {
    Door.IN_PLACE: {
        State.PLANNED: {State.FAILED_SAFE},
        State.LEASED: {State.FAILED_SAFE},
        State.PREFLIGHT: {State.FAILED_SAFE},
        State.STAGING: {State.FAILED_SAFE},
        State.WRITING: {State.FAILED_SAFE},
        State.VERIFIED: {State.FAILED_SAFE},
        State.DRAINED: {State.FAILED_SAFE},
        State.ARMED: {State.FAILED_SAFE, State.ROLLED_BACK},
        State.REBOOTING: {State.ROLLED_BACK},
        State.CONFIGURED: {State.ROLLED_BACK},
        State.HEALTHY: {State.ROLLED_BACK},
        State.SOAKING: {State.ROLLED_BACK, State.QUARANTINED},
    },
    Door.PXE: {
        State.PLANNED: {State.FAILED_SAFE},
        State.LEASED: {State.FAILED_SAFE},
        State.PREFLIGHT: {State.FAILED_SAFE},
        State.DRAINED: {State.FAILED_SAFE},
        State.STAGING: {State.FAILED_SAFE, State.FAILED_DIRTY},
        State.WRITING: {State.FAILED_DIRTY},
        State.VERIFIED: {State.FAILED_DIRTY},
        State.ARMED: {State.FAILED_DIRTY, State.QUARANTINED},
        State.REBOOTING: {State.QUARANTINED},
        State.CONFIGURED: {State.QUARANTINED},
        State.HEALTHY: {State.QUARANTINED},
        State.SOAKING: {State.QUARANTINED},
    },
}


def legal_moves(door: Door) -> set[tuple[State | None, State]]:
    forward = set(pairwise(sequence(door)))
    failures = {(state, end) for state, ends in FAILURES.get(door, FAILURES[Door.PXE]).items() for end in ends}
    return {(None, State.PLANNED), *forward, *failures}


@pytest.mark.parametrize("door", Door)
def test_the_path_of_a_good_flash_is_legal(door) -> None:
    order = sequence(door)
    assert (order[0], order[-1]) == (State.PLANNED, State.COMMITTED)
    for current, target in pairwise((None, *order)):
        check_move(door, current, target)


def test_both_doors_pass_the_same_states_in_their_own_order() -> None:
    in_place, pxe = sequence(Door.IN_PLACE), sequence(Door.PXE)
    assert set(in_place) == set(pxe) == set(State) - set(ENDS) | {State.COMMITTED}
    assert in_place.index(State.DRAINED) > in_place.index(State.VERIFIED)
    assert pxe.index(State.DRAINED) < pxe.index(State.STAGING)


@pytest.mark.parametrize("door", Door)
def test_every_move_that_is_not_legal_raises(door) -> None:
    legal = legal_moves(door)
    for current, target in product((None, *State), State):
        if (current, target) in legal:
            check_move(door, current, target)
        else:
            with pytest.raises(QtradeError, match=f"cannot go from {current} to {target}"):
                check_move(door, current, target)


@pytest.mark.parametrize("end", ENDS)
def test_nothing_follows_an_end(end) -> None:
    with pytest.raises(QtradeError) as caught:
        check_move(Door.PXE, end, State.PLANNED)
    assert caught.value.details == "legal from there: nothing"


@pytest.mark.parametrize("door", Door)
def test_every_state_of_a_door_has_a_deadline_and_leads_to_an_end(door) -> None:
    for state in sequence(door):
        assert rules(door, state).deadline_s > 0
        assert rules(door, state).on_failure in ENDS


def test_in_place_the_old_version_boots_until_the_new_one_is_the_default() -> None:
    for state in sequence(Door.IN_PLACE)[:-1]:
        assert "the old version" in rules(Door.IN_PLACE, state).power_fails
    assert rules(Door.IN_PLACE, State.COMMITTED).power_fails == "the new version"


def test_a_reinstall_is_dirty_from_the_first_byte_on() -> None:
    order = sequence(Door.PXE)
    first = order.index(State.WRITING)
    assert {rules(Door.PXE, state).on_failure for state in order[:first]} == {State.FAILED_SAFE}
    assert State.FAILED_SAFE not in {rules(Door.PXE, state).on_failure for state in order[first:]}
