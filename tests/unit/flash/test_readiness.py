"""Waiting for services that need long: rounds, progress, and what ends the wait before its time."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from flash import readiness
from flash.config import render_bundle
from flash.journal import Journal
from flash.plan import plan_flash
from flash.readiness import ready_within_s, wait_until_ready
from flash.states import State, rules
from flash.trust import VerifiedImage
from qtrade.errors import HostError
from qtrade.manifest import Image, ImageLayer, RoleInputs
from qtrade.manifest.driver import Door
from qtrade.process import Completed
from qtrade.store import LocalStore
from tests.fakes.examples import make_environment, make_host, make_image, make_settings, sha
from tests.fakes.flash import FakeContext
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

BEHIND = "6000 slots behind the reference, 100 are allowed"


def make_agave_image(**values: Any) -> Image:
    """Return an image with the layer agave, whose one value has a default of 900 s."""
    declared = {"agave_catch_up_deadline_s": {"type": "int", "default": 900, "description": "-"}}
    layer = ImageLayer(role="agave", key=sha("k"), digest=sha("d"), size=1, verity=sha("v"), needs=())
    inputs = {"agave": RoleInputs.model_validate({"values": declared})}
    return make_image(layers=(*make_image().layers, layer), inputs=inputs, **values)


@dataclass
class FakeTarget:
    """Gives one answer per round; the last again and again. An exception is raised."""

    host: str = "rpc-1"
    answers: list[Any] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def run(self, command: str, **options: Any) -> Completed:
        self.commands.append(command)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(ready: object, *, boot_id: str = "b1", failed: str = "", said: str = "") -> Completed:
    verdict = {"ready": bool(ready), "reasons": [] if ready else [BEHIND], "lag": 3 if ready else 6000}
    stderr = f"waiting: older\nwaiting: {said}\n" if said else ""
    return Completed((), 0 if ready else 1, f"{boot_id}\n{failed}\n{json.dumps(verdict)}\n", stderr)


class Rig:
    def __init__(self, folder, monkeypatch) -> None:
        self.target = FakeTarget()
        self.now, self.slept = 0.0, []
        monkeypatch.setattr(readiness, "target_for", lambda *_, **__: self.target)
        monkeypatch.setattr(readiness.time, "monotonic", self.tick)
        monkeypatch.setattr(readiness.time, "sleep", self.slept.append)
        settings, image = make_settings(folder), make_agave_image()
        self.host = make_host(config={"agave_catch_up_deadline_s": 300})
        self.environment = make_environment()
        verified = VerifiedImage(image, image.to_json(), image.list_text(), b"")
        journal = Journal(settings.state_dir / "flashes/rpc-1/1.jsonl")
        journal.write(State.REBOOTING, {"boot_id": "b1"})
        self.reporter = RecordingReporter()
        bundle = render_bundle(self.host, self.environment, image)
        store = LocalStore(settings.store)
        self.context = FakeContext(
            settings, self.host, self.environment, verified, store, bundle, self.reporter, journal
        )

    def tick(self) -> float:
        self.now += 20
        return self.now


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_it_waits_in_rounds_and_tells_what_changes(rig) -> None:
    early, late = "6000 slots behind; gaining 4.1 slots/s, about 1463 s left", "200 slots behind"
    rig.target.answers = [answer(False, said=early), answer(False, said=early), answer(False, said=late), answer(True)]
    found = wait_until_ready(rig.context)
    assert found["qtrade-agave-ready"]["lag"] == 3
    assert rig.reporter.lines == [f"rpc-1: {early}", f"rpc-1: {late}"]
    assert len(rig.target.commands) == 4
    assert rig.target.commands[0].endswith("qtrade-agave-ready --wait 60")


def test_a_lost_connection_does_not_end_the_wait(rig) -> None:
    rig.target.answers = [HostError("cannot be reached"), Completed((), 255, "", "gone"), answer(True)]
    wait_until_ready(rig.context)
    assert len(rig.slept) == 2


@pytest.mark.parametrize(
    ("round_", "error"),
    [
        (answer(False, boot_id="b2"), "rpc-1 rebooted while it was waited for"),
        (answer(False, failed="agave-validator.service other.service"), "failed units: agave-validator.service other"),
        (Completed((), 2, "b1\n\n", "qtrade-agave-ready: no config"), "gave no verdict"),
    ],
)
def test_what_cannot_become_ready_is_not_waited_for(rig, round_, error) -> None:
    rig.target.answers = [answer(False), round_]
    with pytest.raises(HostError, match=error):
        wait_until_ready(rig.context)
    assert len(rig.target.commands) == 2


def test_when_time_is_up_the_last_word_is_told(rig) -> None:
    rig.target.answers = [answer(False, said=BEHIND)]
    with pytest.raises(HostError, match="not ready after 300 s") as caught:
        wait_until_ready(rig.context)
    assert caught.value.details == BEHIND
    assert "agave_catch_up_deadline_s" in caught.value.resolution


def test_the_hosts_own_deadline_lengthens_healthy_and_nothing_else(rig) -> None:
    image = make_agave_image()
    assert ready_within_s(rig.host, rig.environment, image) == 300
    assert ready_within_s(make_host(), rig.environment, image) == 900
    assert ready_within_s(make_host(), rig.environment, make_image()) == 0
    for door in (Door.IN_PLACE, Door.PXE):
        plan = plan_flash(rig.host, image, door, ready_within_s=300)
        longer = {step.state: step.deadline_s - rules(door, step.state).deadline_s for step in plan.steps}
        assert {state: more for state, more in longer.items() if more} == {State.HEALTHY: 300}
        assert plan.digest == plan_flash(rig.host, image, door).digest
