"""A fleet of hosts that may hold one identity: the hosts' own program on folders, validators that vote, a cluster that counts slots.

Everything happens in one thread at a time, in an order that a seed decides; controllers stop at every step of theirs, for ever if need be.
"""

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash.identity.answers import read_state, read_stop, write_order
from flash.identity.claims import Claims
from flash.identity.facts import Chain, HostState, Stop
from flash.identity.move import Mover
from flash.identity.tower import read_tower
from flash.identity.world import Order, VoteFiles
from qtrade.errors import HostError, QtradeError
from qtrade.manifest import Identity
from qtrade.store.local import LocalObjects
from tests.fakes.towers import address, make_keypair, make_tower
from tests.fakes.votes import Vote
from tests.unit.roles.agave.conftest import PROGRAMS, load_module

STAKED = make_keypair(1)
IDENTITY = address(STAKED)
VOTE_ACCOUNT = address(make_keypair(2))


@dataclass
class Cluster:
    """Slots, and the votes: all that were signed, and the highest that landed."""

    slot: int = 10_000
    votes: list[Vote] = field(default_factory=list)
    landed: int = 9_000
    on_the_way: list[int] = field(default_factory=list)

    def chain(self) -> Chain:
        return Chain(2, 2, self.slot, self.slot - 32, self.landed, IDENTITY)


class FakeValidator:
    """A process of a validator: what identity.py asks of it, and votes."""

    def __init__(self, host: "FakeHost") -> None:
        self.host = host
        self.name = f"{host.name}/{host.boots}/{host.starts}"
        self.node = host.unstaked
        self.voter: str | None = host.unstaked
        self.last: int | None = None

    def identity(self) -> str | None:
        return self.node

    def set_identity(self, keypair: bytes, *options: str) -> None:
        # What was on its way when the order came is signed still.
        self.vote()
        node = address(keypair)
        path = self.host.tower(node)
        if "--require-tower" in options and not path.exists():
            raise self.host.fleet.program.Refusal("Unable to load tower file for identity")
        self.node = node
        self.last = read_last(path) if path.exists() else None

    def set_voter(self, keypair: bytes | None) -> None:
        self.vote()
        self.voter = address(keypair) if keypair else None

    def vote(self) -> None:
        cluster, slot = self.host.fleet.cluster, self.host.fleet.cluster.slot
        if self.node != IDENTITY or self.voter != IDENTITY or (self.last is not None and slot <= self.last):
            return
        path = self.host.tower(IDENTITY)
        self.host.before_last = path.read_bytes() if path.exists() else None
        path.write_bytes(make_tower(STAKED, [slot]))
        cluster.votes.append(Vote(IDENTITY, self.name, slot, self.last))
        cluster.on_the_way.append(slot)
        self.last = slot


def read_last(path: Path) -> int:
    return read_tower(path.read_bytes(), IDENTITY).last_vote


class FakeHost:
    """A host: its disks outlive a boot, its /run and its validator do not."""

    def __init__(self, fleet: "Fleet", name: str, number: int) -> None:
        self.fleet, self.name = fleet, name
        self.unstaked = address(make_keypair(number))
        self.folder = fleet.folder / name
        self.boots = self.starts = 0
        self.reachable = True
        self.has_power = True
        self.bmc = "honest"
        self.before_last: bytes | None = None
        self.kept: bytes | None = None
        for part in ("ledger", "state"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "state/unstaked-identity.json").write_text(str(list(make_keypair(number))))
        (self.folder / "start.json").write_text('{"version": "4.2.1", "profile": "validator"}')
        (self.folder / "validator.json").write_text(f'{{"vote_account": "{VOTE_ACCOUNT}"}}')
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.has_power = True
        self.start()

    def start(self) -> None:
        """Start the validator anew, unstaked, as its unit does each time."""
        self.starts += 1
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        (self.folder / "run").mkdir()
        self.validator = FakeValidator(self)

    def lose_power(self, *, loses_write: bool) -> None:
        """End at once; a tower that was written last, without fsync, may not be on the disk."""
        self.has_power = False
        if loses_write and self.before_last is not None:
            self.tower(IDENTITY).write_bytes(self.before_last)
        self.before_last = None

    def tower(self, node: str) -> Path:
        return self.folder / "ledger" / f"tower-1_9-{node}.bin"

    def ask(self, act: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Run the host's own program."""
        program = self.fleet.program
        program._boot_id = lambda: f"{self.name}-{self.boots}"
        program._uptime = lambda: self.fleet.cluster.slot * 0.4
        program.TABLE, program.CONFIG = self.folder / "start.json", self.folder / "validator.json"
        parts = {name: self.folder / name for name in ("ledger", "state", "run")}
        try:
            return act(program.Host(IDENTITY, self.validator, **parts))
        except program.Refusal as error:
            raise HostError(f"{self.name}: {error}") from error

    @property
    def answers(self) -> bool:
        return self.reachable and self.has_power


class Killed(BaseException):
    """The controller is gone."""


class Controller(threading.Thread):
    """A command under way, which goes one step at a time."""

    def __init__(self, fleet: "Fleet", act: Callable[[Mover], object], *, power_off: bool = False) -> None:
        super().__init__(daemon=True)
        self.fleet, self.act = fleet, act
        self.go, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.killed = False
        self.error: BaseException | None = None
        self.result: object = None
        self.lease_fault = ""
        self.pauses = 0
        self.mover = Mover(fleet.identity, Claims(fleet.objects), StepWorld(self), power_off=power_off)
        self.start()

    def run(self) -> None:
        self.go.acquire()
        try:
            self.result = self.act(self.mover)
        except (QtradeError, Killed) as error:
            self.error = error
        finally:
            self.done = True
            self.back.release()

    done = False

    def step(self) -> bool:
        """Let it go on to its next step; False once it has ended."""
        if not self.done:
            self.go.release()
            assert self.back.acquire(timeout=30)
        return not self.done

    def stop_here(self) -> None:
        """Called by it between two steps."""
        self.back.release()
        self.go.acquire()
        if self.killed:
            raise Killed

    def kill(self) -> None:
        self.killed = True
        while self.step():
            pass

    def finish(self) -> "Controller":
        while self.step():
            self.fleet.tick()
        return self


@dataclass
class StepWorld:
    """The world as one controller sees it: it may stop before and after each thing that it does to a host."""

    me: Controller

    @contextmanager
    def _step(self) -> Iterator["Fleet"]:
        self.me.stop_here()
        yield self.me.fleet
        self.me.stop_here()

    def look_at(self, host: str) -> HostState | None:
        with self._step() as fleet:
            one = fleet.hosts[host]
            if not one.answers:
                return None
            answer = one.ask(lambda asked: asked.state())
            return read_state(host, IDENTITY, {**answer, "not_ready": [], "slot": fleet.cluster.slot})

    def look_at_all(self, hosts: list[str]) -> dict[str, HostState | None]:
        return {host: self.look_at(host) for host in hosts}

    def release(self, host: str, number: int, *, window_s: float = 0) -> tuple[Stop, VoteFiles] | None:
        with self._step() as fleet:
            one = fleet.hosts[host]
            if not one.answers:
                return None
            return read_stop(host, IDENTITY, number, one.ask(lambda asked: asked.release(number)))

    def cut_power(self, host: str) -> tuple[str, ...]:
        with self._step() as fleet:
            one = fleet.hosts[host]
            before = "On" if one.has_power and one.bmc != "says off" else "Off"
            if one.bmc == "honest":
                one.lose_power(loses_write=True)
            return (before, "Off", "Off")

    def look_at_chain(self) -> Chain:
        with self._step() as fleet:
            return fleet.cluster.chain()

    def give(self, host: str, order: Order) -> HostState:
        with self._step() as fleet:
            one = fleet.hosts[host]
            if not one.answers:
                raise HostError(f"{host} does not answer")
            sent = write_order(order)
            return read_state(host, IDENTITY, one.ask(lambda asked: asked.take(sent, STAKED)))

    def find_fault(self, host: str) -> tuple[str, str]:
        return self.me.lease_fault, ""

    def pause(self) -> bool:
        self.me.stop_here()
        self.me.pauses += 1
        for _ in range(20):
            self.me.fleet.tick(slots=5)
        return self.me.pauses < 12

    def say(self, text: str) -> None:
        pass


class Fleet:
    """Hosts, cluster and store."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ("val-1", "val-2", "val-3"), *, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.program = load_module(PROGRAMS / "identity.py")
        # The votes of these validators are written before they are told to go; nothing is on its way afterwards.
        self.program.SETTLE_S = 0
        self.cluster = Cluster()
        self.hosts = {name: FakeHost(self, name, number) for number, name in enumerate(names, start=10)}
        self.objects = LocalObjects(folder / "store")
        self.identity = Identity.model_validate(
            {
                "schema_version": 1,
                "name": "main",
                "environment": "development",
                "address": IDENTITY,
                "vote_account": VOTE_ACCOUNT,
                "keypair": "env:KEY",
                "hosts": list(names),
                "reference_rpcs": ["http://127.0.0.1:1"],
            }
        )

    @property
    def claims(self) -> Claims:
        return Claims(self.objects)

    def command(self, act: Callable[[Mover], object], *, power_off: bool = False) -> Controller:
        return Controller(self, act, power_off=power_off)

    def tick(self, *, slots: int = 1, lands: float = 0.9) -> None:
        """Let the cluster go on: whoever may vote votes, and most votes land."""
        self.cluster.slot += slots
        for host in self.hosts.values():
            if host.has_power:
                host.validator.vote()
        for slot in self.cluster.on_the_way:
            if self.random.random() < lands:
                self.cluster.landed = max(self.cluster.landed, slot)
        self.cluster.on_the_way.clear()

    def signers(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host.has_power and host.validator.node == IDENTITY]
