"""Moves on hosts that run their own program and log their votes: each way to sign twice is tried, and none succeeds."""

import pytest

from flash.identity.facts import Asked, ClaimState
from qtrade.errors import ConflictError, HostError, NotFound, Refused
from tests.fakes.identity_fleet import IDENTITY, Controller, Fleet, Killed
from tests.fakes.votes import find_double_signs

pytestmark = pytest.mark.unit


def take(fleet: Fleet, host: str, *, power_off: bool = False, **options: bool) -> Controller:
    """Run a take to its end, and let the cluster go on afterwards."""
    done = fleet.command(lambda mover: mover.take(Asked(host, **options)), power_off=power_off).finish()
    for _ in range(5):
        fleet.tick()
    return done


def release(fleet: Fleet, host: str, *, power_off: bool = False) -> Controller:
    return fleet.command(lambda mover: mover.release(host), power_off=power_off).finish()


def hold(fleet: Fleet, host: str = "val-1") -> None:
    """Let a host hold it from the start."""
    assert take(fleet, host, first=True).error is None
    assert fleet.signers() == [host]
    assert [vote for vote in fleet.cluster.votes if vote.process.startswith(host)]


def refusal(done: Controller) -> str:
    assert isinstance(done.error, Refused), done.error or done.result
    return done.error.details or done.error.brief


@pytest.fixture(autouse=True)
def no_double_sign(fleet) -> object:
    yield
    assert fleet.cluster.votes, "nobody signed, so nothing was shown"
    assert find_double_signs(fleet.cluster.votes) == []


def test_a_clean_move_goes_on_with_the_tower_and_loses_no_vote(fleet) -> None:
    hold(fleet)
    assert take(fleet, "val-2").error is None
    assert fleet.signers() == ["val-2"]
    claim = fleet.claims.read(IDENTITY)
    assert (claim.state, claim.host, claim.confirmed) == (ClaimState.HELD, "val-2", True)
    # One chain of votes, without the distance of a lost tower.
    first = next(number for number, vote in enumerate(fleet.cluster.votes) if vote.process.startswith("val-2"))
    old, new = fleet.cluster.votes[first - 1 : first + 1]
    assert new.after == old.slot
    assert new.slot - old.slot < 200
    assert (claim.stop.clean, claim.stop.host, claim.votes.last_vote) == (True, "val-1", old.slot)


def test_every_state_of_the_claim_is_kept_with_its_evidence(fleet) -> None:
    hold(fleet)
    take(fleet, "val-2")
    claim = fleet.claims.read(IDENTITY)
    kept = [entry.key for entry in fleet.objects.list(f"identities/{IDENTITY}/")]
    assert kept == [f"identities/{IDENTITY}/{number:08}.json" for number in range(1, claim.number)]


def test_taking_what_is_held_changes_nothing(fleet) -> None:
    hold(fleet)
    before = fleet.claims.read(IDENTITY)
    assert take(fleet, "val-1").result == before
    assert fleet.claims.read(IDENTITY) == before


def test_release_and_take_again_on_the_same_host(fleet) -> None:
    hold(fleet)
    assert release(fleet, "val-1").result.state is ClaimState.RELEASED
    assert fleet.signers() == []
    assert release(fleet, "val-1").error is None
    assert take(fleet, "val-1").error is None
    assert fleet.signers() == ["val-1"]


def test_a_host_that_released_it_and_is_gone(fleet) -> None:
    hold(fleet)
    release(fleet, "val-1")
    fleet.hosts["val-1"].lose_power(loses_write=False)
    done = take(fleet, "val-2")
    assert "tower-out-of-reach" in refusal(done)
    assert fleet.claims.read(IDENTITY).state is ClaimState.MOVING
    assert take(fleet, "val-2", tower_lost=True).error is None
    assert fleet.signers() == ["val-2"]


def test_only_the_holder_releases(fleet) -> None:
    hold(fleet)
    assert isinstance(release(fleet, "val-2").error, Refused)
    assert fleet.signers() == ["val-1"]


def test_nobody_releases_what_nobody_held(fleet) -> None:
    assert isinstance(release(fleet, "val-1").error, NotFound)
    hold(fleet)


# Partition between the controller and the holder.


def test_a_silent_holder_is_no_stopped_holder(fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].reachable = False
    assert "not-stopped" in refusal(take(fleet, "val-2"))
    assert "not-stopped" in refusal(take(fleet, "val-2", tower_lost=True))
    assert fleet.signers() == ["val-1"]


def test_after_a_partition_the_same_command_goes_on(fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].reachable = False
    take(fleet, "val-2")
    fleet.hosts["val-1"].reachable = True
    assert take(fleet, "val-2").error is None
    assert fleet.signers() == ["val-2"]


def test_a_move_that_did_not_come_about_is_taken_back(fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].reachable = False
    take(fleet, "val-2")
    assert fleet.claims.read(IDENTITY).state is ClaimState.MOVING
    fleet.hosts["val-1"].reachable = True
    claim = take(fleet, "val-1").result
    assert (claim.state, claim.host, claim.to) == (ClaimState.HELD, "val-1", "")
    assert take(fleet, "val-2").error is None


def test_a_false_proof_does_not_serve_twice(fleet) -> None:
    hold(fleet)
    host = fleet.hosts["val-1"]
    host.reachable, host.bmc = False, "does nothing"
    refusal(take(fleet, "val-2", power_off=True, tower_lost=True))
    assert fleet.claims.read(IDENTITY).stop.power == ("On", "Off", "Off")
    host.reachable = True
    assert take(fleet, "val-1").result.stop is None
    host.reachable = False
    fleet.cluster.landed = 0
    assert "not-stopped" in refusal(take(fleet, "val-2", tower_lost=True))


def test_power_off_proves_it_and_the_distance_is_kept(fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].reachable = False
    assert "tower-missing" in refusal(take(fleet, "val-2", power_off=True))
    done = take(fleet, "val-2", power_off=True, tower_lost=True)
    assert done.error is None
    assert fleet.signers() == ["val-2"]
    votes = fleet.cluster.votes
    first = next(number for number, vote in enumerate(votes) if vote.process.startswith("val-2"))
    assert votes[first].slot >= votes[first - 1].slot + 200


def test_a_holder_whose_power_comes_back_is_unstaked(fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].reachable = False
    take(fleet, "val-2", power_off=True, tower_lost=True)
    fleet.hosts["val-1"].boot()
    fleet.hosts["val-1"].reachable = True
    fleet.tick(slots=300)
    assert fleet.signers() == ["val-2"]


# A BMC that lies.


@pytest.mark.parametrize(("bmc", "code"), [("says off", "power-off-unseen"), ("does nothing", "somebody-still-votes")])
def test_a_bmc_that_lies_proves_nothing(bmc, code, fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].reachable = False
    fleet.hosts["val-1"].bmc = bmc
    assert code in refusal(take(fleet, "val-2", power_off=True, tower_lost=True))
    assert fleet.signers() == ["val-1"]


# The holder rebooted.


def test_a_holder_that_rebooted_takes_it_again_after_the_distance(fleet) -> None:
    hold(fleet)
    fleet.hosts["val-1"].boot()
    fleet.tick(lands=1)
    assert fleet.signers() == []
    assert take(fleet, "val-1").error is None
    assert fleet.signers() == ["val-1"]


def test_a_power_cut_that_loses_the_last_vote_is_noticed(fleet) -> None:
    hold(fleet)
    for _ in range(3):
        fleet.tick(lands=1)
    fleet.hosts["val-1"].lose_power(loses_write=True)
    fleet.hosts["val-1"].boot()
    assert "tower-older-than-the-chain" in refusal(take(fleet, "val-2"))
    assert take(fleet, "val-2", tower_lost=True).error is None
    assert fleet.signers() == ["val-2"]


# Stale towers, rolled back images and disks.


def test_a_ledger_that_came_back_from_a_copy_is_noticed(fleet) -> None:
    hold(fleet)
    host = fleet.hosts["val-1"]
    old = host.tower(IDENTITY).read_bytes()
    for _ in range(5):
        fleet.tick(lands=1)
    release(fleet, "val-1")
    host.tower(IDENTITY).write_bytes(old)
    assert "files-changed" in refusal(take(fleet, "val-2"))
    assert "tower-older-than-the-chain" in refusal(take(fleet, "val-1"))


def test_a_tower_of_an_earlier_stint_is_not_used(fleet) -> None:
    """val-2 held it long ago, and its file is still there; it is overwritten by a hand-over, and set aside without one."""
    hold(fleet, "val-2")
    take(fleet, "val-1")
    stale = fleet.hosts["val-2"].tower(IDENTITY).read_bytes()
    fleet.hosts["val-1"].reachable = False
    assert take(fleet, "val-2", power_off=True, tower_lost=True).error is None
    aside = list((fleet.hosts["val-2"].folder / "ledger").glob("*.before-*"))
    assert [path.read_bytes() for path in aside] == [stale]


def test_a_host_that_was_rolled_back_with_its_state_forgot(fleet) -> None:
    hold(fleet)
    (fleet.hosts["val-1"].folder / f"state/identities/{IDENTITY}.json").unlink()
    fleet.hosts["val-1"].boot()
    assert "holder-forgot" in refusal(take(fleet, "val-2"))


def test_a_store_that_was_rolled_back_is_noticed(fleet) -> None:
    hold(fleet)
    old = fleet.objects.get(f"identities/{IDENTITY}.json")[0]
    take(fleet, "val-2")
    fleet.objects.put(f"identities/{IDENTITY}.json", old)
    assert "candidate-fenced" in refusal(take(fleet, "val-1"))
    assert "second-signer" in refusal(take(fleet, "val-3"))


def test_a_store_that_is_lost_gives_it_to_nobody_while_somebody_signs(fleet) -> None:
    hold(fleet)
    fleet.objects.delete(f"identities/{IDENTITY}.json")
    assert "never-held" in refusal(take(fleet, "val-2"))
    assert "second-signer" in refusal(take(fleet, "val-2", first=True))
    fleet.hosts["val-1"].reachable = False
    assert "fleet-silent" in refusal(take(fleet, "val-2", first=True))


def test_somebody_outside_the_fleet_signs(fleet) -> None:
    hold(fleet)
    release(fleet, "val-1")
    fleet.cluster.landed = fleet.cluster.slot
    assert "tower-older-than-the-chain" in refusal(take(fleet, "val-2"))


# Leases, operators, and commands that end half-way.


def test_a_lost_lease_stops_it(fleet) -> None:
    hold(fleet)
    command = fleet.command(lambda mover: mover.take(Asked("val-2")))
    command.lease_fault = "the lease of val-2 is lost"
    assert "lease-lost" in refusal(command.finish())


def test_of_two_operators_one_is_told_no(fleet) -> None:
    hold(fleet)
    for order in range(60):
        one = fleet.command(lambda mover: mover.take(Asked("val-2")))
        two = fleet.command(lambda mover: mover.take(Asked("val-3")))
        for _ in range(order):
            one.step()
        ended = [two.finish(), one.finish()]
        errors = [command.error for command in ended if command.error]
        assert all(isinstance(error, (ConflictError, HostError, Refused)) for error in errors)
        assert len(fleet.signers()) <= 1
        assert find_double_signs(fleet.cluster.votes) == []
        assert take(fleet, "val-1").error is None


def test_killed_after_any_step_and_run_again(fleet) -> None:
    hold(fleet)
    hosts = ["val-2", "val-1"]
    for steps in range(40):
        to = hosts[steps % 2]
        command = fleet.command(lambda mover, to=to: mover.take(Asked(to)))
        for _ in range(steps):
            command.step()
        command.kill()
        assert command.done
        assert isinstance(command.error, Killed) or command.error is None
        fleet.tick(slots=3)
        again = take(fleet, to)
        assert again.error is None, again.error.render()
        assert fleet.signers() == [to]


def test_killed_and_then_another_host_is_chosen(fleet) -> None:
    hold(fleet)
    for steps in range(40):
        command = fleet.command(lambda mover: mover.take(Asked("val-2")))
        for _ in range(steps):
            command.step()
        command.kill()
        done = take(fleet, "val-3")
        assert done.error is None, done.error.render()
        assert fleet.signers() == ["val-3"]
        assert take(fleet, "val-1").error is None


def test_a_command_that_slept_sends_nothing_that_counts(fleet) -> None:
    """Stopped after any step, it wakes when others have moved the identity on, or the power of its host was cut."""
    hold(fleet)
    for steps in range(40):
        asleep = fleet.command(lambda mover: mover.take(Asked("val-2")))
        for _ in range(steps):
            asleep.step()
        for host in ("val-1", "val-2"):
            fleet.hosts[host].reachable = False
        moved = take(fleet, "val-3", power_off=True, tower_lost=True)
        for host in ("val-1", "val-2"):
            fleet.hosts[host].boot()
            fleet.hosts[host].reachable = True
        asleep.finish()
        for _ in range(5):
            fleet.tick()
        assert find_double_signs(fleet.cluster.votes) == []
        assert len(fleet.signers()) <= 1
        assert moved.error is None or isinstance(moved.error, Refused)
        back = take(fleet, "val-1")
        back = back if back.error is None else take(fleet, "val-1", tower_lost=True)
        assert back.error is None, back.error.render()


def test_an_order_that_was_held_up_does_nothing(fleet) -> None:
    hold(fleet)
    command = fleet.command(lambda mover: mover.take(Asked("val-2")))
    while fleet.claims.read(IDENTITY).state is not ClaimState.HELD or fleet.claims.read(IDENTITY).host != "val-2":
        command.step()
    fleet.tick(slots=1000)
    assert "more than 60 s old" in str(command.finish().error)
    assert fleet.signers() == []
    assert take(fleet, "val-2").error is None
