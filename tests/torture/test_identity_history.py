"""Vote histories of Agave 4.3 on stand-in validators, once the vote account has voted by Alpenglow's rules. Root."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrade.errors import HostError, Refused
from qtrade.settings import load_settings
from tests.fakes.examples import make_settings
from tests.fakes.identity_operator import ADDRESS, Operator, signers
from tests.fakes.validator_hosts import STAKED, ValidatorFleet, run_fleet
from tests.fakes.votes import find_double_signs

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fleet() -> Iterator[ValidatorFleet]:
    with tempfile.TemporaryDirectory(prefix="q") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with run_fleet(load_settings(), make_settings(folder / "o"), folder / "f", version="4.3.0") as running:
            yield running
            assert find_double_signs(running.votes) == []


@pytest.fixture
def operator(fleet) -> Operator:
    return Operator(fleet)


def history(fleet: ValidatorFleet, host: str) -> Path:
    return fleet[host].ledger / f"vote_history-{ADDRESS}.bin"


def test_it_moves_with_the_tower(fleet, operator) -> None:
    assert operator.take("val-1", "--first")[0] == 0
    time.sleep(1)
    code, said = operator.take("val-2")
    assert code == 0, said
    assert signers(fleet) == {"val-2"}
    assert operator.claim()["votes"]["history_sha256"]
    assert history(fleet, "val-2").exists()


def test_a_missing_one_is_refused_here_and_by_agave_itself(fleet, operator) -> None:
    fleet.change_cluster(alpenglow=True)
    fleet["val-1"].reboot()
    operator.release("val-2")
    history(fleet, "val-2").unlink()
    history(fleet, "val-1").unlink()
    code, said = operator.take("val-1")
    assert (code, "vote-history-missing" in said) == (Refused.exit_code, True)
    # Whoever says wrongly that there was none: the holder told of one when it stopped, and the validator knows by itself.
    code, said = operator.take("val-1", "--without-vote-history")
    assert (code, "files-changed" in said) == (Refused.exit_code, True)
    with pytest.raises(HostError) as caught:
        fleet["val-1"].by_hand("set-identity", keypair=STAKED)
    assert "Unable to load vote history file" in caught.value.details
    assert signers(fleet) == set()


def test_one_that_is_lost_is_given_up_with_the_distance_only(fleet, operator) -> None:
    last = fleet.votes[-1].slot
    code, said = operator.take("val-1", "--tower-lost")
    assert code == 0, said
    assert signers(fleet) == {"val-1"}
    fresh = next(vote for vote in fleet.votes if vote.slot > last)
    assert (fresh.after, fresh.slot >= last + 200) == (None, True)
