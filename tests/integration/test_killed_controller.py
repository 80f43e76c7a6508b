"""A controller that is killed at every point of a flash, and the same command again: no operator has to do anything.

Each controller is a process of its own, with the real doors, jobs, journal, lease and store; the host is a file that outlives it.
"""

import json
import os
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

import flash.doors.installer as installer_door
import flash.doors.rescue as rescue_door
from flash import access, ending
from flash.context import Evidence
from flash.doors import Steps, in_place
from flash.doors.kexec import KexecEntry
from flash.doors.rescue import RescueEntry
from flash.journal import Journal, latest
from flash.netboot.server import FlashServer
from flash.run import flash_in_order, prepare
from flash.ssh import pin_host_key
from flash.states import ENDS, State, sequence
from qtrade.errors import HostError
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeContext
from tests.fakes.model_host import KEY, OLD, ModelEntry, ModelHost, ModelProvider, ModelRescue, new_host
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

_MOST_POINTS = 200


@dataclass
class Controller:
    """One command: `qtrade flash` of this host, whose doors stand in its manifest. It dies at its point number `dies_at`; 0 is never."""

    settings: Settings
    is_in_place: bool
    is_healthy: bool
    dies_at: int = 0
    points: int = 0

    @property
    def host_file(self) -> Path:
        return self.settings.state_dir / "model.json"

    def tick(self, what: str) -> None:
        """Count a point, and die there if it is the one."""
        self.points += 1
        if self.points == self.dies_at:
            (self.settings.state_dir / "died").write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self) -> None:
        """Flash, and note every word that was said."""
        reporter = RecordingReporter()
        host = ModelHost(self.host_file, self.tick)
        write = Journal.write

        def note(journal: Journal, state: State, evidence: Evidence) -> None:
            self.tick(f"before the journal says {state}")
            write(journal, state, evidence)
            self.tick(f"after the journal says {state}")
            if state is State.STAGING and host.job:
                host.carry_on()

        Journal.write = note  # type: ignore[method-assign]
        installer_door.FlashServer = _serve_anywhere  # type: ignore[misc,assignment]
        access.driver_for = lambda *_, **__: ModelProvider(host)  # type: ignore[assignment]
        rescue_door.reach = rescue_door.reach_before = lambda *_: ModelRescue(host)  # type: ignore[assignment]
        rescue_door.read_public_key = lambda _: KEY  # type: ignore[assignment]
        ending.wait_until_settled = lambda *_, **__: self.settle()  # type: ignore[assignment]
        # In place, `prepare` would ask a real host whether it answers.
        door = Door.IN_PLACE if self.is_in_place else None
        made, plan = prepare(self.settings, "rpc-1", "0.1.0", reporter, door=door)
        context = FakeContext(**{**vars(made), "fake_link": host})  # type: ignore[arg-type]
        try:
            flash_in_order(context, plan, steps_of=lambda door: self._steps(door, host))
        finally:
            (self.settings.state_dir / "said").write_text("\n".join(reporter.lines))

    def settle(self) -> Evidence:
        """Say that the old version is well."""
        self.tick("while the old version settles")
        return {"system": "running"}

    def _steps(self, door: Door, host: ModelHost) -> Steps:
        entries = {Door.KEXEC: KexecEntry, Door.RESCUE: RescueEntry, Door.PXE: lambda: ModelEntry(host)}
        made = in_place.steps() if door is Door.IN_PLACE else installer_door.steps(entries[door]())

        def healthy(context: FakeContext, deadline_s: float) -> Evidence:
            self.tick("while the specs run")
            if not self.is_healthy:
                raise HostError("the specs fail")
            return {"specs": 1}

        return {**made, State.HEALTHY: healthy}  # type: ignore[dict-item]


def _serve_anywhere(listen: str, port: int, **options: object) -> FlashServer:
    return FlashServer("127.0.0.1", 0)


def in_a_process(controller: Controller) -> int:
    """Run a controller in a process of its own; return its exit code: 0, 1 for an error of ours, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            controller.run()
            code = 0
        except HostError:
            code = 1
        except BaseException:  # noqa: BLE001 - nothing of pytest may run in this process
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture
def project(tmp_path) -> Settings:
    """A project with a published image, and its keys; its host was flashed before."""
    settings = make_settings(tmp_path)
    write_project(settings, environment={"monitor_set": "none"})
    publish_image(settings)
    prepare(settings, "rpc-1", "0.1.0", RecordingReporter(), door=Door.PXE)
    pin_host_key(settings, "rpc-1", KEY)
    return settings


@pytest.mark.parametrize(
    ("doors", "is_healthy", "end"),
    [
        ([Door.IN_PLACE], True, State.COMMITTED),
        ([Door.IN_PLACE], False, State.ROLLED_BACK),
        ([Door.PXE], True, State.COMMITTED),
        # A half-written disk gives kexec nothing to start from; the next door needs nothing.
        ([Door.KEXEC, Door.PXE], True, State.COMMITTED),
        ([Door.RESCUE], True, State.COMMITTED),
    ],
    ids=["in place", "in place and unhealthy", "pxe", "kexec, then pxe", "rescue"],
)
def test_after_a_kill_at_any_point_the_same_command_ends_the_flash(project, doors, is_healthy, end) -> None:
    write_project(project, host=host_of(doors), environment={"monitor_set": "none"})
    state_dir, door = project.state_dir, doors[0]
    killed_in: set[State] = set()
    half_written = ended_by_themselves = 0
    for point in range(1, _MOST_POINTS):
        for path in (*state_dir.glob("flashes/*/*"), state_dir / "died"):
            path.unlink(missing_ok=True)
        controller = Controller(project, door is Door.IN_PLACE, is_healthy)
        controller.host_file.write_text(json.dumps(new_host()))
        controller.dies_at = point
        code = in_a_process(controller)
        if code != -signal.SIGKILL:
            ended_by_themselves = point
            break
        where = (state_dir / "died").read_text()
        killed_in.add(_doing(state_dir, door))
        half_written += json.loads(controller.host_file.read_text())["half"]
        token = Leases(open_store(project).objects).read("rpc-1").token
        again = Controller(project, door is Door.IN_PLACE, is_healthy)
        code = in_a_process(again)
        assert code == (0 if is_healthy else 1), f"killed {where}: {(state_dir / 'said').read_text()}"
        check_end(project, again, end, where)
        assert Leases(open_store(project).objects).read("rpc-1").token > token
        assert "the lease of rpc-1 is taken over from" in (state_dir / "said").read_text()
    assert ended_by_themselves > len(sequence(door)), "the point was never reached: nobody was killed"
    wanted = set(sequence(door)) if is_healthy else set(sequence(door)[: sequence(door).index(State.HEALTHY) + 1])
    assert killed_in >= wanted
    assert half_written == (0 if door is Door.IN_PLACE else 2), "no kill left a half-written disk"


def host_of(doors: list[Door]) -> dict[str, object]:
    """Return what the manifest of a host with these doors has of its own."""
    found: dict[str, object] = {"doors": [str(door) for door in doors]}
    if Door.RESCUE in doors:
        found["driver"] = {"kind": "cherry", "server_id": 7, "token": "env:TOKEN"}
    return found


def _doing(state_dir: Path, door: Door) -> State:
    """Return the state that the killed controller was in: the one after the last that it wrote."""
    journal = latest(state_dir / "flashes/rpc-1")
    state = journal.state if journal else None
    order = sequence(door)
    if state is None:
        return order[0]
    return state if state in ENDS else order[order.index(state) + 1]


def check_end(project: Settings, controller: Controller, end: State, where: str) -> None:
    journal = latest(project.state_dir / "flashes/rpc-1")
    host = ModelHost(controller.host_file, lambda _: None).facts
    assert journal is not None
    assert journal.state is end, f"killed {where}: {journal.entries}"
    if end is State.COMMITTED:
        assert host["image"] == host["default"] == journal.evidence("image"), f"killed {where}: {host}"
        assert host["once"] == ""
    else:
        assert host["image"] == host["default"] == OLD, f"killed {where}: {host}"
        assert host["once"] in ("", OLD)
    assert host["services"], f"killed {where}: the services stay stopped"
    assert host["locked"], f"killed {where}: the provider's lock stays off"
    assert host["torn"] == 0, f"killed {where}: the power went off while the services ran"
    tokens = [entry.token for entry in journal.entries]
    assert tokens == sorted(tokens)
