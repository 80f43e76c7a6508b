"""A controller that is killed at every point of a flash, and the same command again: no operator has to do anything.

Each controller is a process of its own, with the real doors, jobs, journal, lease and store; the host is a file that outlives it.
"""

import json
import os
import signal
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import flash.doors.installer as installer_door
from flash.context import Evidence
from flash.doors import Steps, in_place
from flash.journal import Journal, latest
from flash.netboot.server import FlashServer
from flash.run import flash, prepare
from flash.states import ENDS, State, sequence
from qtrade.errors import HostError
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeContext
from tests.fakes.model_host import OLD, ModelEntry, ModelHost, new_host
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

_MOST_POINTS = 200


@dataclass
class Controller:
    """One command: `qtrade flash` of this host through this door. It dies at its point number `dies_at`; 0 is never."""

    settings: Settings
    door: Door
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
        made, plan = prepare(self.settings, "rpc-1", "0.1.0", reporter, door=self.door)
        host = ModelHost(self.host_file, self.tick)
        context = FakeContext(**{**vars(made), "fake_link": host})  # type: ignore[arg-type]
        write = Journal.write

        def note(journal: Journal, state: State, evidence: Evidence) -> None:
            self.tick(f"before the journal says {state}")
            write(journal, state, evidence)
            self.tick(f"after the journal says {state}")

        Journal.write = note  # type: ignore[method-assign]
        try:
            flash(context, plan, steps=self._steps(host))
        finally:
            (self.settings.state_dir / "said").write_text("\n".join(reporter.lines))

    def _steps(self, host: ModelHost) -> Steps:
        if self.door is Door.IN_PLACE:
            made = in_place.steps()
        else:
            installer_door.FlashServer = partial(_serve_anywhere)  # type: ignore[misc,assignment]
            made = installer_door.steps(ModelEntry(host))

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


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Settings:
    """A project with a published image, and its keys."""
    settings = make_settings(tmp_path_factory.mktemp("killed"))
    write_project(settings, environment={"monitor_set": "none"})
    publish_image(settings)
    prepare(settings, "rpc-1", "0.1.0", RecordingReporter(), door=Door.PXE)
    return settings


@pytest.mark.parametrize(
    ("door", "is_healthy", "end"),
    [
        (Door.IN_PLACE, True, State.COMMITTED),
        (Door.IN_PLACE, False, State.ROLLED_BACK),
        (Door.PXE, True, State.COMMITTED),
    ],
    ids=["in place", "in place and unhealthy", "through the installer"],
)
def test_after_a_kill_at_any_point_the_same_command_ends_the_flash(project, door, is_healthy, end) -> None:
    state_dir = project.state_dir
    killed_in: set[State] = set()
    ended_by_themselves = 0
    for point in range(1, _MOST_POINTS):
        for path in (*state_dir.glob("flashes/*/*"), state_dir / "died"):
            path.unlink(missing_ok=True)
        controller = Controller(project, door, is_healthy)
        controller.host_file.write_text(json.dumps(new_host()))
        controller.dies_at = point
        code = in_a_process(controller)
        if code != -signal.SIGKILL:
            ended_by_themselves = point
            break
        where = (state_dir / "died").read_text()
        killed_in.add(_doing(state_dir, door))
        token = Leases(open_store(project).objects).read("rpc-1").token
        again = Controller(project, door, is_healthy)
        code = in_a_process(again)
        assert code == (0 if is_healthy else 1), f"killed {where}: {(state_dir / 'said').read_text()}"
        check_end(project, again, end, where)
        assert Leases(open_store(project).objects).read("rpc-1").token > token
        assert "the lease of rpc-1 is taken over from" in (state_dir / "said").read_text()
    assert ended_by_themselves > len(sequence(door)), "the point was never reached: nobody was killed"
    wanted = set(sequence(door)) if is_healthy else set(sequence(door)[: sequence(door).index(State.HEALTHY) + 1])
    assert killed_in >= wanted


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
    tokens = [entry.token for entry in journal.entries]
    assert tokens == sorted(tokens)
