"""Random faults in random order, and commands that are killed or asleep among them: no double sign."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flash.identity.facts import Asked
from flash.identity.move import Mover
from tests.fakes.identity_fleet import IDENTITY, Controller, FakeHost, Fleet
from tests.fakes.votes import find_double_signs
from tests.unit.identity.conftest import MEMORY

pytestmark = pytest.mark.unit

HOSTS = ("val-1", "val-2", "val-3")
SEEDS = 30
STEPS = 400


def live(fleet: Fleet, chance: random.Random, *, steps: int = STEPS) -> list[str]:
    """Let commands and faults come as they will, and return the double signs."""
    running: list[Controller] = [fleet.command(lambda mover: mover.take(Asked("val-1", first=True))).finish()]
    kinds = {
        "tick": 30,
        "step": 60,
        "begin": 12,
        "kill": 2,
        "boot": 2,
        "cut": 2,
        "restart": 1,
        "link": 4,
        "bmc": 1,
        "lapse": 1,
    }
    for happens in chance.choices([*kinds], [*kinds.values()], k=steps):
        running = [command for command in running if not command.done]
        if happens == "tick":
            fleet.tick(slots=chance.choice([1, 1, 1, 2, 40]), lands=chance.choice([0.3, 0.9, 1]))
        elif happens == "begin" and len(running) < 3:
            running.append(fleet.command(begin(fleet, chance), power_off=chance.random() < 0.6))
        elif happens == "step" and running:
            chosen = chance.choice(running)
            for _ in range(chance.choice([1, 3, 12])):
                chosen.step()
        elif happens == "kill" and running:
            chance.choice(running).kill()
        elif happens == "lapse" and running:
            chance.choice(running).lease_fault = "the lease is lost"
        else:
            befall(fleet.hosts[chance.choice(HOSTS)], happens, chance)
    for command in running:
        # Whoever slept all the time wakes at the end.
        command.finish()
    fleet.tick()
    return find_double_signs(fleet.cluster.votes)


def begin(fleet: Fleet, chance: random.Random) -> Callable[[Mover], object]:
    """Return a command, mostly one that could go well."""
    answering = [name for name, host in fleet.hosts.items() if host.answers]
    host = chance.choice(answering or HOSTS) if chance.random() < 0.9 else chance.choice(HOSTS)
    claim = fleet.claims.read(IDENTITY)
    if claim is not None and chance.random() < 0.15:
        return lambda mover: mover.release(claim.host)
    asked = Asked(host, first=chance.random() < 0.03, tower_lost=chance.random() < 0.5)
    return lambda mover: mover.take(asked)


def befall(host: FakeHost, happens: str, chance: random.Random) -> None:
    if happens == "boot" or (happens == "cut" and not host.has_power):
        host.lose_power(loses_write=chance.random() < 0.5)
        host.boot()
    elif happens == "cut":
        host.lose_power(loses_write=chance.random() < 0.5)
    elif happens == "restart" and host.has_power:
        host.start()
    elif happens == "link":
        # Two of three times it comes back.
        host.reachable = not host.reachable or chance.random() < 0.5
    elif happens == "bmc":
        host.bmc = chance.choice(["honest", "honest", "says off", "does nothing"])


def run_seed(seed: int) -> tuple[list[str], Fleet]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        fleet = Fleet(Path(name), HOSTS, seed=seed)
        return live(fleet, random.Random(seed)), fleet


def test_no_double_sign_whatever_happens() -> None:
    moves = 0
    for seed in range(SEEDS):
        found, fleet = run_seed(seed)
        assert found == [], f"seed {seed}"
        moves += len({vote.process for vote in fleet.cluster.votes}) - 1
    # Else nothing was shown.
    assert moves >= SEEDS / 2, f"the identity moved {moves} times only"


def test_the_claim_is_readable_after_all_that(folder) -> None:
    fleet = Fleet(folder, HOSTS, seed=5)
    live(fleet, random.Random(5))
    claim = fleet.claims.read(IDENTITY)
    assert claim is not None
    assert [entry.key for entry in fleet.objects.list("identities/")][-1].endswith(".json")
