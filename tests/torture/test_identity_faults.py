"""Faults while a staked identity moves, on stand-in validators that log every vote: nobody ever signs twice. Root.

tests/integration/test_identity.py has what every run shows.
"""

import json
import random
import signal
import time

import pytest

from qtrade.clock import library
from qtrade.errors import ConflictError, HostError, Refused
from tests.fakes.identity_operator import Operator, finish, signers
from tests.fakes.validator_hosts import wait_for
from tests.fakes.votes import find_double_signs

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]


def test_a_planned_move_waits_for_a_window_without_leader_slots(fleet, operator) -> None:
    (fleet["val-1"].ledger / "standin-leads").touch()
    code, said = operator.take("val-2", "--window", "3")
    assert (code, "no two minutes without leader slots" in said) == (HostError.exit_code, True)
    assert signers(fleet) == {"val-1"}
    (fleet["val-1"].ledger / "standin-leads").unlink()
    assert operator.take("val-2", "--window", "3")[0] == 0
    assert signers(fleet) == {"val-2"}


def test_a_silent_holder_keeps_it(fleet, operator) -> None:
    """Partition: the holder votes on, and only its operator cannot reach it."""
    fleet["val-1"].disconnect()
    for options in ((), ("--tower-lost",)):
        code, said = operator.take("val-2", *options)
        assert (code, "not-stopped" in said) == (Refused.exit_code, True)
    assert signers(fleet) == {"val-1"}


def test_a_rollback_that_brings_an_old_disk_back_is_refused(fleet, operator) -> None:
    old = fleet["val-1"].tower.read_bytes()
    time.sleep(2)
    fleet["val-1"].power_off()
    fleet["val-1"].tower.write_bytes(old)
    fleet["val-1"].power_on()
    for host in ("val-1", "val-2"):
        code, said = operator.take(host)
        assert (code, "tower-older-than-the-chain" in said) == (Refused.exit_code, True)


def test_a_missing_tower_is_given_up_with_the_distance_only(fleet, operator) -> None:
    operator.release("val-1")
    fleet["val-1"].tower.unlink()
    last = fleet.votes[-1].slot
    code, said = operator.take("val-2")
    assert (code, "tower-missing" in said) == (Refused.exit_code, True)
    code, said = operator.take("val-2", "--tower-lost")
    assert code == 0, said
    assert signers(fleet) == {"val-2"}
    assert next(vote.slot for vote in fleet.votes if vote.slot > last) >= last + 200


def test_a_holder_that_rebooted_takes_it_again(fleet, operator) -> None:
    last = fleet.votes[-1]
    fleet["val-1"].reboot()
    assert signers(fleet) == set()
    code, said = operator.take("val-1")
    assert code == 0, said
    assert signers(fleet) == {"val-1"}
    fresh = next(vote for vote in fleet.votes if vote.process == fleet["val-1"].process)
    assert (fresh.after >= last.slot, fresh.slot >= last.slot + 200) == (True, True)


def test_power_off_proves_a_stop(fleet, operator) -> None:
    fleet["val-1"].disconnect()
    code, said = operator.take("val-2", "--power-off-holder", "--tower-lost")
    assert code == 0, said
    assert not fleet["val-1"].is_on
    assert operator.claim()["stop"]["power"] == ["On", "Off", "Off"]
    # Whoever switches it on again gets a host that votes for nobody.
    fleet["val-1"].power_on()
    assert signers(fleet) == {"val-2"}


@pytest.mark.parametrize("says_off_before", [False, True])
def test_a_bmc_that_lies_proves_none(says_off_before, fleet, operator) -> None:
    """It shows every change that it is asked for, and the host votes on."""
    bmc = fleet["val-1"].bmc
    fleet["val-1"].disconnect()
    bmc.lies = True
    if says_off_before:
        bmc.board.ask(bmc.board.force_off)
    code, said = operator.take("val-2", "--power-off-holder", "--tower-lost")
    assert (code, "somebody-still-votes" in said) == (Refused.exit_code, True)
    assert operator.claim()["stop"]["power"] == [*(["Off"] if says_off_before else []), "On", "Off", "Off"]
    assert signers(fleet) == {"val-1"}


def test_a_controller_that_is_killed_at_any_time(fleet, operator) -> None:
    chance = random.Random(11)
    for number in range(6):
        to = ("val-2", "val-1")[number % 2]
        child = operator.command("take", "--host", to, "--yes")
        time.sleep(chance.uniform(0.8, 6.5))
        child.kill()
        child.communicate()
        code, said = operator.take(to)
        assert code == 0, said
        assert signers(fleet) == {to}
        assert find_double_signs(fleet.votes) == []


def test_an_operator_who_slept_while_another_moved_it_on(fleet, operator) -> None:
    """His lease runs out meanwhile; what he wakes to is no claim of his."""
    fleet["val-1"].reboot()
    asleep = operator.command("take", "--host", "val-2", "--yes")
    wait_for(lambda: operator.claim()["state"] == "moving", lambda: "no move began")
    asleep.send_signal(signal.SIGSTOP)
    for lease in (fleet.settings.store / "leases").glob("*.json"):
        lease.write_text(json.dumps({**json.loads(lease.read_text()), "expires": 1.0}))
    code, said = Operator(fleet, "other").take("val-1")
    assert code == 0, said
    asleep.send_signal(signal.SIGCONT)
    code, said = finish(asleep)
    assert code in (ConflictError.exit_code, Refused.exit_code), said
    assert signers(fleet) == {"val-1"}


@pytest.mark.parametrize(("one", "two"), [("+2h", "-2h"), ("-2h", "+2h")])
def test_operators_whose_clocks_are_hours_apart(one, two, fleet, operator) -> None:
    """Each takes the other's lease for one that has run out, or for one of the future."""
    clocks = [{"LD_PRELOAD": str(library()), "FAKETIME": shift} for shift in (one, two)]
    fleet["val-1"].reboot()
    first = operator.command("take", "--host", "val-2", "--yes", **clocks[0])
    time.sleep(4)
    second = Operator(fleet, "other").command("take", "--host", "val-1", "--yes", **clocks[1])
    ended = [finish(first), finish(second)]
    assert len(signers(fleet)) <= 1, ended
    for lease in (fleet.settings.store / "leases").glob("*.json"):
        lease.unlink()
