"""Where a rollout stands: folded from its journal, one small record a host."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flash.rollout.waves import RolloutPlan


class HostState(StrEnum):
    """Where a host stands in a rollout.

    SKIPPED could not be reached or refused, and runs what it ran. FELL_BACK had the new version and went back by itself. STUCK needs a
    person.
    """

    WAITING = "WAITING"
    STARTED = "STARTED"
    COMMITTED = "COMMITTED"
    SKIPPED = "SKIPPED"
    FELL_BACK = "FELL_BACK"
    STUCK = "STUCK"
    RETURNING = "RETURNING"
    RETURNED = "RETURNED"


class Phase(StrEnum):
    """Where a rollout stands. In RETURNING hosts go back to what they ran: the version failed, or somebody wants it undone."""

    ROLLING = "ROLLING"
    SOAKING = "SOAKING"
    PAUSED = "PAUSED"
    ABORTING = "ABORTING"
    RETURNING = "RETURNING"
    DONE = "DONE"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    UNDONE = "UNDONE"


class Event(StrEnum):
    """What a line of the journal says happened."""

    BEGUN = "begun"
    ADOPTED = "adopted"
    STARTED = "started"
    COMMITTED = "committed"
    SKIPPED = "skipped"
    FELL_BACK = "fell_back"
    STUCK = "stuck"
    MOVED = "moved"
    SOAKING = "soaking"
    PASSED = "passed"
    PAUSED = "paused"
    RESUMED = "resumed"
    FAILED = "failed"
    BLOCKED = "blocked"
    UNDO = "undo"
    RETURNING = "returning"
    RETURNED = "returned"
    ABORTING = "aborting"
    ENDED = "ended"


ENDS = frozenset({Phase.DONE, Phase.FAILED, Phase.ABORTED, Phase.UNDONE})
UNDER_WAY = frozenset({HostState.STARTED, HostState.RETURNING})
# On the new version, or perhaps on it.
EXPOSED = frozenset(HostState) - {HostState.WAITING, HostState.SKIPPED}
_OF_HOSTS = {
    Event.STARTED: HostState.STARTED,
    Event.COMMITTED: HostState.COMMITTED,
    Event.SKIPPED: HostState.SKIPPED,
    Event.FELL_BACK: HostState.FELL_BACK,
    Event.STUCK: HostState.STUCK,
    Event.RETURNING: HostState.RETURNING,
    Event.RETURNED: HostState.RETURNED,
}


_TURNS = {
    Event.PAUSED: Phase.PAUSED,
    Event.FAILED: Phase.RETURNING,
    Event.UNDO: Phase.RETURNING,
    Event.ABORTING: Phase.ABORTING,
}


@dataclass(slots=True)
class Standing:
    """A host: its wave by number from 0, since when it is in its state (Unix seconds), and why."""

    wave: int
    state: HostState = HostState.WAITING
    at: float = 0.0
    why: str = ""


@dataclass
class Progress:
    """Where a rollout stands; times are Unix seconds. `resumes` is the phase that a pause has interrupted.

    `failure` is what the version failed by, with the gate's finding behind it where there is one. `undo_to` is the version that hosts go
    back to, empty for the one that each ran before.
    """

    hosts: dict[str, Standing]
    phase: Phase = Phase.ROLLING
    wave: int = 0
    began: float = 0.0
    moved: float = 0.0
    soaking_since: float = 0.0
    resumes: Phase = Phase.ROLLING
    why: str = ""
    failure: str = ""
    findings: tuple[dict[str, Any], ...] = ()
    blocked: bool = False
    undo: bool = False
    undo_to: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the hosts by state and wave: a fleet is large, and this is asked at every step."""
        self._sorted: dict[tuple[HostState, int], dict[str, None]] = {}
        for name, one in self.hosts.items():
            self._sorted.setdefault((one.state, one.wave), {})[name] = None

    @classmethod
    def at_start(cls, plan: RolloutPlan) -> "Progress":
        """Return where a rollout begins."""
        return cls({name: Standing(number) for number, wave in enumerate(plan.waves) for name in wave.hosts})

    def names(self, *states: HostState, wave: int | None = None) -> list[str]:
        """Return the hosts in these states, of one wave or of all."""
        return [
            name
            for (state, number), own in self._sorted.items()
            if state in states and wave in (None, number)
            for name in own
        ]

    def counts(self) -> dict[HostState, int]:
        """Return how many hosts are in each state."""
        found = dict.fromkeys(HostState, 0)
        for (state, _), own in self._sorted.items():
            found[state] += len(own)
        return found

    def place(self, name: str, *, state: HostState | None = None, wave: int | None = None) -> Standing:
        """Put a host into another state or wave, and return its standing."""
        one = self.hosts[name]
        del self._sorted[one.state, one.wave][name]
        one.state = one.state if state is None else state
        one.wave = one.wave if wave is None else wave
        self._sorted.setdefault((one.state, one.wave), {})[name] = None
        return one

    def apply(self, event: Event, at: float, fields: dict[str, Any]) -> None:
        """Take what happened into account."""
        self.moved, why = at, str(fields.get("why", ""))
        if event in _OF_HOSTS:
            one = self.place(fields["host"], state=_OF_HOSTS[event])
            one.at, one.why = at, why
        elif event in _TURNS:
            self._turn(event, why, fields)
        else:
            self._pass_on(event, at, why, fields)

    def _turn(self, event: Event, why: str, fields: dict[str, Any]) -> None:
        """Leave the way from wave to wave: for a pause, back, or to the end."""
        if event is Event.PAUSED and self.phase is not Phase.PAUSED:
            self.resumes = self.phase
        self.phase, self.why = _TURNS[event], why or self.why
        if event is Event.FAILED:
            self.failure, self.findings = why, tuple(fields.get("findings", ()))
            self.verdicts[str(self.wave)] = "fail"
        elif event is Event.UNDO:
            self.undo, self.undo_to = True, str(fields.get("to", ""))

    def _pass_on(self, event: Event, at: float, why: str, fields: dict[str, Any]) -> None:
        """Go from wave to wave."""
        match event:
            case Event.BEGUN:
                self.began = at
            case Event.MOVED:
                self.place(fields["host"], wave=int(fields["wave"]))
            case Event.SOAKING:
                self.phase, self.soaking_since = Phase.SOAKING, at
            case Event.PASSED:
                self.verdicts[str(self.wave)] = "pass"
                self.wave, self.phase = self.wave + 1, Phase.ROLLING
            case Event.RESUMED:
                # What was missed meanwhile was not watched.
                self.phase, self.soaking_since, self.why = self.resumes, at, ""
            case Event.BLOCKED:
                self.blocked = True
            case Event.ENDED:
                self.phase = Phase(fields["phase"])
            case _:
                self.why = why or self.why
