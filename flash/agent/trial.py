"""Makes a config generation current: for good, or on trial until the controller confirms it over a connection made after the change.

The way back needs nobody. A timer of systemd's ends a change that was not settled in time, whatever became of the agent and of its
connection; and after a reboot the initramfs takes the generation that the image was last settled with, which one on trial is not.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol, Sequence

from . import config, credentials, durable, reboots, units
from .errors import AgentError
from .units import Inputs, UnitAction

# How long the agent may be gone in the middle of a change before the timer takes the change back.
_GUARD_S = 120


class Timer(Protocol):
    """What calls `revert` later, in a process of its own."""

    def arm(self, within_s: float) -> None:
        """Call it after so many seconds."""

    def disarm(self) -> None:
        """Call it no more."""


class Trial(NamedTuple):
    """A change that is not settled: what it is, what the host goes back to, and until when; times in seconds since the boot `boot_id`.

    `acted_at` is when the units had the new files: 0 while they are still at it.
    """

    generation: str
    before: str
    nonce: str
    boot_id: str
    due: float
    acted_at: float = 0.0


class Taken(NamedTuple):
    """What became of a change: the units that acted, and for how long it waits to be confirmed (0: it is settled)."""

    units: List[str]
    waits_s: int


class Ground(NamedTuple):
    """Where changes are made: the folders of generations, secrets and notes, what the boot has read, and what runs there."""

    config: Path
    store: Path
    notes: Path
    booted: Path
    image_id: str
    boot_id: str
    inputs: Inputs
    timer: Timer
    act: Callable[[UnitAction], None] = units.act
    now: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def note(self) -> Path:
        """Return where the open trial is noted."""
        return self.notes / "trial.json"

    @property
    def last_revert(self) -> Path:
        """Return where it is noted what the host took back last, and why."""
        return self.notes / "reverted.json"


def take(
    ground: Ground,
    generation: str,
    nonce: str,
    *,
    confirm_within_s: int = 0,
    put: Optional[Callable[[], Sequence[UnitAction]]] = None,
) -> Taken:
    """Switch to a generation that is there; units of changed files reload or restart.

    `put` stores secrets that go with it, and returns what their units are to do. It is on trial for `confirm_within_s` when the host can
    be cut off by what changes. Raises `AgentError` when a unit does not take it, or `put` fails: then generation and secrets from before
    are there again, and the units have got them back.
    """
    current, open_trial = config.current_generation(ground.config), read_trial(ground)
    # What was not settled is no place to go back to.
    settled = open_trial.before if open_trial else current
    changed = config.changed_paths(ground.config, current, generation)
    actions = ground.inputs.actions_of(changed)
    risked = ground.inputs.guarding_access(config.changed_paths(ground.config, settled, generation))
    waits_s = confirm_within_s if risked and settled and settled != generation else 0
    trial = Trial(generation, settled, nonce, ground.boot_id, ground.now() + _GUARD_S)
    if actions or waits_s or put:
        _note(ground, trial)
        # One that comes before its time, since the units took theirs, starts another (`revert`).
        ground.timer.arm(min(_GUARD_S, waits_s or _GUARD_S))
    reboots.remember(ground.booted, ground.config, current, ground.inputs)
    try:
        if put or credentials.is_kept(ground.store):
            credentials.keep(ground.store, ground.image_id, generation)
        if put:
            actions = units.merge_actions([*actions, *put()])
        config.switch(ground.config, generation)
        units.act_on_all(actions, ground.act)
    except AgentError as error:
        _go_back(ground, trial, error.message)
        raise AgentError(
            "config-rejected",
            f"generation {generation} was not taken: {error.message}",
            f"generation {settled} is current again; correct the values and push"
            if settled
            else "correct the values and push",
        ) from error
    if waits_s:
        now = ground.now()
        _note(ground, trial._replace(due=now + waits_s, acted_at=now))
    else:
        _settle(ground, generation)
    return Taken([action.name for action in actions], waits_s)


def confirm(ground: Ground, nonce: str, *, connected_at: float) -> str:
    """Settle the trial that the job with `nonce` began; returns its generation. Raises `AgentError` when it is over.

    `connected_at` is when the connection was made that this comes over, in seconds since the boot; one from before the change proves
    nothing, since firewalls let live connections be.
    """
    trial = read_trial(ground)
    if trial is not None and trial.nonce == nonce and not trial.acted_at:
        raise AgentError(
            "trial-unfinished",
            f"the agent died in the middle of the change to generation {trial.generation}",
            f"the host goes back to generation {trial.before} by itself within {trial.due - ground.now():.0f} s; push again then",
        )
    if trial is None or trial.nonce != nonce:
        raise AgentError(
            "trial-over",
            f"nothing waits for this confirmation; generation {config.current_generation(ground.config) or 'none'} is current",
            "see `reverted` in `qtrade hosts show`, correct the values and push",
        )
    if connected_at <= trial.acted_at:
        raise AgentError(
            "connection-old",
            f"generation {trial.generation} can be confirmed only over a connection that was made after the change",
            "connect anew; without a confirmation the host goes back by itself",
        )
    _settle(ground, trial.generation)
    return trial.generation


def revert(ground: Ground) -> str:
    """Take an unsettled change back if its time is up; returns the generation that was taken back, else nothing."""
    trial = read_trial(ground)
    if trial is None:
        return ""
    left_s = trial.due - ground.now()
    if left_s > 0:
        ground.timer.arm(left_s)
        return ""
    why = "nobody confirmed it in time" if trial.acted_at else "the agent died in the middle of the change"
    _go_back(ground, trial, why)
    return trial.generation


def read_trial(ground: Ground) -> Optional[Trial]:
    """Return the open trial; None where there is none, or only one that a reboot has ended."""
    try:
        trial = Trial(**json.loads(ground.note.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return trial if trial.boot_id == ground.boot_id else None


def read_reverted(ground: Ground) -> Optional[Dict[str, Any]]:
    """Return which generation the host took back last, to which it went, why and when; None where it never did."""
    try:
        found: Dict[str, Any] = json.loads(ground.last_revert.read_text())
    except (OSError, ValueError):
        return None
    return found


def _settle(ground: Ground, generation: str) -> None:
    config.settle(ground.config, generation, ground.image_id)
    credentials.settle(ground.store)
    if ground.note.exists():
        ground.note.unlink()
        ground.timer.disarm()
    config.prune(ground.config)


def _go_back(ground: Ground, trial: Trial, why: str) -> None:
    """Let `before` be current with its secrets, and give both to the units. The note goes last: until then the timer does it once more."""
    actions = ground.inputs.actions_of(config.changed_paths(ground.config, trial.before, trial.generation))
    undone = credentials.undo(ground.store, ground.inputs)
    if trial.before:
        config.switch(ground.config, trial.before)
        units.act_on_all_regardless(units.merge_actions([*actions, *undone]), ground.act)
    said = {"generation": trial.generation, "before": trial.before, "why": why, "at": int(time.time())}
    durable.write_file(ground.last_revert, json.dumps(said, sort_keys=True).encode(), 0o600)
    with contextlib.suppress(FileNotFoundError):
        ground.note.unlink()
    ground.timer.disarm()


def _note(ground: Ground, trial: Trial) -> None:
    durable.write_file(ground.note, json.dumps(trial._asdict(), sort_keys=True).encode(), 0o600)
