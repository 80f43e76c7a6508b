"""The staked identity on stand-in validators that log every vote, with sshd and BMCs: `qtrade identity` as people run it. Root."""

import json
import time
from unittest.mock import ANY

import pytest

from flash.identity.guard import refuse_holder
from qtrade.errors import ConflictError, HostError, Refused
from qtrade.store import open_store
from tests.fakes.identity_operator import Operator, finish, signers
from tests.fakes.validator_hosts import STAKED, wait_for
from tests.fakes.votes import find_double_signs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_a_hand_over_loses_no_vote_and_leaves_the_key_nowhere(fleet, operator) -> None:
    begun = len(fleet.votes)
    assert operator.take("val-2") == (0, ANY)
    assert signers(fleet) == {"val-2"}
    votes = fleet.votes
    first = next(number for number in range(begun, len(votes)) if votes[number].process == fleet["val-2"].process)
    assert votes[first].after == votes[first - 1].slot
    key, numbers = STAKED[:32], [json.dumps(list(STAKED), separators=mark)[1:60] for mark in ((",", ":"), (", ", ": "))]
    places = [path for place in (fleet.folder, fleet.settings.state_dir) for path in place.rglob("*") if path.is_file()]
    content = {path: path.read_bytes() for path in places}
    assert fleet["val-2"].tower in content, "the search does not reach the hosts' disks"
    assert [
        path for path in places if key in content[path] or any(one.encode() in content[path] for one in numbers)
    ] == []


def test_a_stale_tower_is_refused(fleet, operator) -> None:
    """It came back from a copy after the holder had stopped."""
    old = fleet["val-1"].tower.read_bytes()
    time.sleep(2)
    operator.release("val-1")
    fleet["val-1"].tower.write_bytes(old)
    code, said = operator.take("val-2")
    assert (code, "tower-older-than-the-chain" in said, "files-changed" in said) == (Refused.exit_code, True, True)
    assert signers(fleet) == set()


def test_a_candidate_that_is_behind_stops_nobody(fleet, operator) -> None:
    (fleet["val-2"].ledger / "standin-lag").write_text("500")
    code, said = operator.take("val-2")
    assert (code, "candidate-not-ready" in said) == (Refused.exit_code, True)
    assert signers(fleet) == {"val-1"}
    assert "panicked" not in fleet["val-2"].log


def test_two_operators_at_once(fleet, operator) -> None:
    other = Operator(fleet, "other")
    children = [operator.command("take", "--host", "val-2", "--yes"), other.command("take", "--host", "val-1", "--yes")]
    ended = [finish(child) for child in children]
    assert {code for code, _ in ended} <= {0, Refused.exit_code, ConflictError.exit_code, HostError.exit_code}
    assert len(signers(fleet)) <= 1


def test_who_looks_changes_nothing(fleet, operator) -> None:
    before = operator.claim()
    child = operator.command("take", "--host", "val-2", "--dry-run", "--json")
    out, _ = child.communicate(timeout=60)
    found = json.loads(out)
    assert (child.returncode, found["allowed"], found["claim"]["host"]) == (0, True, "val-1")
    child = operator.command("show", "--host", "val-2")
    out, _ = child.communicate(timeout=60)
    assert "val-1    SIGNS" in out
    assert operator.claim() == before
    fleet["val-2"].disconnect()
    assert finish(operator.command("take", "--host", "val-2", "--dry-run"))[0] == Refused.exit_code


def test_a_flash_of_the_holder_is_refused(fleet) -> None:
    store = open_store(fleet.settings)
    with pytest.raises(Refused, match="val-1 has the staked identity"):
        refuse_holder(store, "val-1")
    refuse_holder(store, "val-2")


def test_the_checker_catches_what_is_planted(all_hosts) -> None:
    """Last: both get the key by hand, and real validators sign twice."""
    assert find_double_signs(all_hosts.votes) == []
    for name in ("val-1", "val-2"):
        all_hosts[name].by_hand("authorized-voter", "remove-all")
        all_hosts[name].by_hand("authorized-voter", "add", keypair=STAKED)
        all_hosts[name].by_hand("set-identity", keypair=STAKED)
    wait_for(lambda: len(signers(all_hosts)) == 2, lambda: "only one signs")
    assert find_double_signs(all_hosts.votes)
