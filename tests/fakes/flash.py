"""A host that answers as it is told, doors whose steps only remember, and a rig that flashes the one through the others."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flash.config import render_bundle
from flash.context import Evidence, FlashContext
from flash.doors import Steps
from flash.drivers import PowerState
from flash.jobs import SignedJob
from flash.journal import Journal, latest
from flash.plan import FlashPlan, plan_flash
from flash.run import FlashResult, flash
from flash.states import State, sequence
from flash.trust import VerifiedImage
from qtrade.errors import HostError
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import LocalStore
from tests.fakes.examples import make_environment, make_host, make_image
from tests.fakes.reporter import RecordingReporter


@dataclass
class FakeLink:
    """Answers `status` from a list, its last item again and again; remembers the kinds of the jobs that it was given."""

    statuses: list[Evidence] = field(default_factory=list)
    jobs: list[SignedJob] = field(default_factory=list)
    disconnected: int = 0

    def status(self, *, timeout_s: float = 60) -> Evidence:
        if not self.statuses:
            raise HostError("the host does not answer")
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def run(self, job: SignedJob, **options: Any) -> Evidence:
        self.jobs.append(job)
        return {}

    def disconnect(self) -> None:
        self.disconnected += 1

    def wait_for_status(self, accept: Callable[[Evidence], bool], *, within_s: float, what: str) -> Evidence:
        for _ in range(len(self.statuses) + 1):
            status = self.status()
            if accept(status):
                return status
        raise HostError(f"{what} did not happen within {within_s:.0f} s")


@dataclass
class FakeContext(FlashContext):
    """A flash whose host is a `FakeLink`."""

    fake_link: FakeLink = field(default_factory=FakeLink)

    @property
    def link(self) -> FakeLink:  # type: ignore[override]
        return self.fake_link

    def check_login(self) -> None:
        """Nobody logs in to the fake."""


@dataclass
class FakeBoard:
    """A BMC that notes every call."""

    calls: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def power_state(self) -> PowerState:
        return PowerState.ON

    def power_on(self) -> None:
        self.calls.append("on")

    def power_off(self) -> None:
        self.calls.append("off")

    def power_cycle(self) -> None:
        self.calls.append("cycle")


class FakeDoor:
    """Steps that remember their names; `failures` maps a state to the error that its step raises."""

    def __init__(self, failures: dict[State, Exception] | None = None, evidence: dict[State, Evidence] | None = None):
        self.passed: list[State] = []
        self.deadlines: dict[State, float] = {}
        self.failures = failures or {}
        self.evidence = evidence or {}

    def steps(self) -> Steps:
        return {state: self._step(state) for state in sequence(Door.PXE)[1:]}

    def _step(self, state: State) -> Callable[[FlashContext, float], Evidence]:
        def step(context: FlashContext, deadline_s: float) -> Evidence:
            self.passed.append(state)
            self.deadlines[state] = deadline_s
            if state in self.failures:
                raise self.failures[state]
            return self.evidence.get(state, {})

        return step


class Rig:
    """One host, flashed again and again as by one command after another."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.link = FakeLink()
        self.reporter = RecordingReporter()
        self.runs = 0

    @property
    def folder(self) -> Path:
        return self.settings.state_dir / "flashes/rpc-1"

    def context(self, **image: str) -> FakeContext:
        self.runs += 1
        made = make_image(**image)
        verified = VerifiedImage(made, made.to_json(), made.list_text(), b"")
        journal = Journal(self.folder / f"{self.runs:03}.jsonl")
        host, environment = make_host(), make_environment()
        bundle = render_bundle(host, environment, made)
        store = LocalStore(self.settings.store)
        parts = (self.settings, host, environment, verified, store, bundle, self.reporter, journal)
        return FakeContext(*parts, fake_link=self.link)

    def flash(self, door: Door, fake: FakeDoor, *, until: State = State.COMMITTED, **image: str) -> FlashResult:
        context = self.context(**image)
        return flash(context, self.plan(door, **image), until=until, steps=fake.steps())

    def plan(self, door: Door, **image: str) -> FlashPlan:
        return plan_flash(make_host(), make_image(**image), door)

    def states(self) -> list[State]:
        return [entry.state for entry in latest(self.folder).entries]


def kinds(rig: Rig) -> list[str]:
    """Return the kinds of the jobs that the host was given."""
    return [json.loads(base64.b64decode(job.envelope["payload"]))["kind"] for job in rig.link.jobs]
