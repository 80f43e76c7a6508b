"""Fixtures: stand-in validators that log every vote, in good order before each scenario, and nobody has signed twice after it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrade.settings import load_settings
from tests.fakes.examples import make_settings
from tests.fakes.identity_operator import Operator, signers
from tests.fakes.validator_hosts import ValidatorFleet, run_fleet
from tests.fakes.votes import find_double_signs


@pytest.fixture(scope="module")
def all_hosts() -> Iterator[ValidatorFleet]:
    # Not below pytest's own folder, which takes the rights of other users away; and short, for SSH's sockets.
    with tempfile.TemporaryDirectory(prefix="q") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with run_fleet(load_settings(), make_settings(folder / "o"), folder / "f") as running:
            assert Operator(running).take("val-1", "--first")[0] == 0
            yield running


@pytest.fixture
def fleet(all_hosts) -> Iterator[ValidatorFleet]:
    """All is well and val-1 votes, before each scenario; and after it, nobody has signed twice."""
    for host in all_hosts.hosts.values():
        host.bmc.lies = False
        host.bmc.board.ask(host.bmc.board.power_on)
        if not host.is_on:
            host.power_on()
        (host.ledger / "standin-lag").unlink(missing_ok=True)
        host.connect()
    code, said = Operator(all_hosts).take("val-1")
    if code != 0:
        code, said = Operator(all_hosts).take("val-1", "--tower-lost")
    assert code == 0, said
    assert signers(all_hosts) == {"val-1"}
    yield all_hosts
    assert find_double_signs(all_hosts.votes) == []


@pytest.fixture
def operator(fleet) -> Operator:
    return Operator(fleet)
