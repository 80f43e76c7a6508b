"""The real hands: a command for each host, whose end is read from the host and from its flash's journal."""

import asyncio
import json
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from flash.rollout.hands import CommandHands
from flash.rollout.ports import Outcome
from flash.rollout.progress import Event
from tests.fakes.examples import make_settings, sha
from tests.fakes.rollout.fleet import NEW, OLD, make_members, make_plan

pytestmark = pytest.mark.unit

HOST = "host-0000"
# Stands in for `qtrade`: takes its next turn from a file, journals a flash as that one does, and ends.
PROGRAM = textwrap.dedent("""
    import json, pathlib, sys, time
    room = pathlib.Path(sys.argv[1])
    turns = json.loads((room / "turns").read_text())
    turn = turns.pop(0)
    (room / "turns").write_text(json.dumps(turns))
    with (room / "called").open("a") as sink:
        sink.write(" ".join(sys.argv[2:]) + "\\n")
    if turn.get("states"):
        folder = room / "state/flashes/host-0000"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"at": time.time(), "state": one, "evidence": {"version": "0.2.0"}}) for one in turn["states"]]
        (folder / f"{time.time_ns()}.jsonl").write_text("\\n".join(lines) + "\\n")
    time.sleep(turn.get("sleep_s", 0))
    if turn.get("status"):
        (room / "status").write_text(json.dumps(turn["status"]))
    if turn.get("brief"):
        print(json.dumps({"event": "error", "brief": turn["brief"]}))
    sys.exit(turn.get("code", 0))
""")


class Room:
    """A host as it answers, and the turns that its commands take."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        settings = make_settings(folder)
        self.plan = make_plan(make_members(3))
        (folder / "program.py").write_text(PROGRAM)
        program = (sys.executable, str(folder / "program.py"), str(folder))
        self.hands = CommandHands(settings, self.plan, folder / "logs", program=program, held_s=0.01)
        self.since = 0.0
        monkeypatch.setattr(self.hands, "_status", lambda _: self.status())

    def status(self) -> dict[str, Any] | None:
        path = self.folder / "status"
        return json.loads(path.read_text()) if path.exists() else None

    def runs(self, version: str) -> dict[str, Any]:
        status = {"image": sha(version), "default": sha(version), "version": version}
        (self.folder / "status").write_text(json.dumps(status))
        return status

    def turns(self, *turns: dict[str, Any]) -> None:
        (self.folder / "turns").write_text(json.dumps(turns))

    def called(self) -> list[str]:
        path = self.folder / "called"
        return path.read_text().splitlines() if path.exists() else []

    def deploy(self) -> Outcome:
        return asyncio.run(self.hands.deploy(HOST, self.since))

    def take_back(self, to: str = "") -> Outcome:
        return asyncio.run(self.hands.take_back(HOST, to))


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def test_a_host_is_flashed_by_a_command(room: Room) -> None:
    room.turns({"states": ["PLANNED", "COMMITTED"]})
    assert room.deploy() == Outcome(Event.COMMITTED)
    assert room.called() == [f"flash --host {HOST} --version {NEW} --yes --json"]


def test_a_host_that_runs_it_is_left_alone(room: Room) -> None:
    room.runs(NEW)
    assert room.deploy() == Outcome(Event.COMMITTED)
    assert room.called() == []


@pytest.mark.parametrize(
    ("state", "event"),
    [
        ("ROLLED_BACK", Event.FELL_BACK),
        ("FAILED_SAFE", Event.SKIPPED),
        ("FAILED_DIRTY", Event.STUCK),
        ("QUARANTINED", Event.STUCK),
    ],
)
def test_what_a_failed_flash_means_is_what_its_journal_says(room: Room, state: str, event: Event) -> None:
    room.turns({"states": ["PLANNED", state], "code": 9, "brief": "it did not become healthy"})
    assert room.deploy() == Outcome(event, "it did not become healthy")


def test_a_flash_that_was_refused_before_it_began_is_passed_over(room: Room) -> None:
    room.turns({"code": 7, "brief": "rpc-1 may not go down: 0 other rpc host(s) are healthy"})
    assert room.deploy() == Outcome(Event.SKIPPED, "rpc-1 may not go down: 0 other rpc host(s) are healthy")


def test_a_flash_that_another_command_does_is_waited_for(room: Room) -> None:
    committed = {"image": sha(NEW), "default": sha(NEW), "version": NEW}
    held = {"code": 8, "brief": "host-0000 is held by another process"}
    room.turns(held, {**held, "status": committed})
    assert room.deploy() == Outcome(Event.COMMITTED)
    assert len(room.called()) == 2


def test_a_quarantined_host_is_not_waited_for(room: Room) -> None:
    room.turns({"code": 8, "brief": "host-0000 is quarantined: HEALTHY: it is silent"})
    assert room.deploy().event is Event.SKIPPED


def test_a_flash_that_was_killed_is_taken_up(room: Room) -> None:
    room.turns({"states": ["PLANNED", "STAGING"], "code": 137}, {"states": ["PLANNED", "COMMITTED"]})
    assert room.deploy() == Outcome(Event.COMMITTED)
    assert len(room.called()) == 2


def test_a_flash_that_failed_while_nobody_led_is_not_tried_again(room: Room) -> None:
    failed = {"states": ["PLANNED", "ROLLED_BACK"], "code": 9, "brief": "it did not become healthy"}
    room.turns(failed, {"states": ["PLANNED", "COMMITTED"]})
    assert room.deploy().event is Event.FELL_BACK
    assert room.deploy() == Outcome(Event.FELL_BACK, "ROLLED_BACK")
    assert len(room.called()) == 1
    room.since = time.time()
    assert room.deploy().event is Event.COMMITTED, "an earlier rollout's failure says nothing"


def test_a_command_that_takes_too_long_is_ended(room: Room) -> None:
    room.turns({"sleep_s": 60})

    async def give_up() -> int | None:
        work = asyncio.create_task(room.hands.deploy(HOST, 0.0))
        for _ in range(500):
            await asyncio.sleep(0.02)
            if room.called():
                break
        child = room.hands._children[HOST]
        work.cancel()
        await room.hands.give_up(HOST)
        return child.poll()

    assert asyncio.run(give_up()) not in (None, 0)


def test_a_flash_that_is_killed_again_and_again_needs_a_person(room: Room) -> None:
    room.turns(*[{"states": ["PLANNED", "STAGING"], "code": 137}] * 3)
    assert room.deploy().event is Event.STUCK


def test_a_host_is_rolled_back_once_only(room: Room) -> None:
    room.runs(NEW)
    room.turns({"status": room.runs(OLD)})
    room.runs(NEW)
    assert room.take_back().event is Event.RETURNED
    assert room.take_back() == Outcome(Event.RETURNED, f"runs {OLD}")
    assert room.called() == [f"rollback --host {HOST} --yes --json"], "a second one would bring the bad version back"


def test_a_host_goes_back_to_the_version_that_was_named(room: Room) -> None:
    room.runs("0.1.1")
    room.turns({})
    assert room.take_back(OLD).event is Event.RETURNED
    assert room.called() == [f"rollback --host {HOST} --to {OLD} --yes --json"]


def test_a_host_that_may_not_go_back_is_stuck(room: Room) -> None:
    room.runs(NEW)
    room.turns({"code": 7, "brief": "its ledger was written by a later Agave"})
    assert room.take_back() == Outcome(Event.STUCK, "its ledger was written by a later Agave")
