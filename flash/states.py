"""The states of a flash, the legal moves between them, and what boots if power fails in each.

                      +--> (in place) STAGING .. VERIFIED -> DRAINED -> ARMED --+
PLANNED -> LEASED -> PREFLIGHT                                                  +-> REBOOTING -> CONFIGURED -> HEALTHY
                      +--> (other doors) DRAINED -> STAGING .. VERIFIED -> ARMED +       -> SOAKING -> COMMITTED
"""

from dataclasses import dataclass
from enum import StrEnum

from qtrade.errors import QtradeError
from qtrade.manifest.driver import Door


class State(StrEnum):
    """Where a flash stands."""

    PLANNED = "PLANNED"
    LEASED = "LEASED"
    PREFLIGHT = "PREFLIGHT"
    DRAINED = "DRAINED"
    STAGING = "STAGING"
    WRITING = "WRITING"
    VERIFIED = "VERIFIED"
    ARMED = "ARMED"
    REBOOTING = "REBOOTING"
    CONFIGURED = "CONFIGURED"
    HEALTHY = "HEALTHY"
    SOAKING = "SOAKING"
    COMMITTED = "COMMITTED"
    FAILED_SAFE = "FAILED_SAFE"
    FAILED_DIRTY = "FAILED_DIRTY"
    ROLLED_BACK = "ROLLED_BACK"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True)
class Rules:
    """What holds for a state: seconds until it is given up, what boots if power fails, where a failure leads."""

    deadline_s: float
    power_fails: str
    on_failure: State


ENDS = (State.COMMITTED, State.FAILED_SAFE, State.FAILED_DIRTY, State.ROLLED_BACK, State.QUARANTINED)

_IN_PLACE = (
    State.PLANNED,
    State.LEASED,
    State.PREFLIGHT,
    State.STAGING,
    State.WRITING,
    State.VERIFIED,
    State.DRAINED,
    State.ARMED,
    State.REBOOTING,
    State.CONFIGURED,
    State.HEALTHY,
    State.SOAKING,
    State.COMMITTED,
)
_REINSTALL = (
    State.PLANNED,
    State.LEASED,
    State.PREFLIGHT,
    State.DRAINED,
    State.STAGING,
    State.WRITING,
    State.VERIFIED,
    State.ARMED,
    State.REBOOTING,
    State.CONFIGURED,
    State.HEALTHY,
    State.SOAKING,
    State.COMMITTED,
)
_OLD, _NEITHER, _NEW = "the old version", "the installer again, at the next flash", "the new version"


def sequence(door: Door) -> tuple[State, ...]:
    """Return the states that a flash through `door` passes when all goes well."""
    return _IN_PLACE if door is Door.IN_PLACE else _REINSTALL


def rules(door: Door, state: State) -> Rules:
    """Return the rules of `state` for a flash through `door`."""
    in_place = door is Door.IN_PLACE
    dirty = State.FAILED_SAFE if in_place else State.FAILED_DIRTY
    written = _OLD if in_place else _NEITHER
    after = State.ROLLED_BACK if in_place else State.QUARANTINED
    table = {
        State.PLANNED: Rules(60, _OLD, State.FAILED_SAFE),
        State.LEASED: Rules(30, _OLD, State.FAILED_SAFE),
        State.PREFLIGHT: Rules(180, _OLD, State.FAILED_SAFE),
        State.DRAINED: Rules(1800, written if in_place else _OLD, State.FAILED_SAFE),
        State.STAGING: Rules(1800, _OLD, State.FAILED_SAFE),
        State.WRITING: Rules(3600, written, dirty),
        State.VERIFIED: Rules(600, written, dirty),
        State.ARMED: Rules(300, f"{_NEW} once, then {_OLD}" if in_place else _NEW, dirty),
        State.REBOOTING: Rules(1800, f"{_NEW} once, then {_OLD}" if in_place else _NEW, after),
        State.CONFIGURED: Rules(300, _OLD if in_place else _NEW, after),
        State.HEALTHY: Rules(900, _OLD if in_place else _NEW, after),
        State.SOAKING: Rules(86400, _OLD if in_place else _NEW, after),
        State.COMMITTED: Rules(120, _NEW, State.QUARANTINED),
    }
    return table[state]


def check_move(door: Door, current: State | None, target: State) -> None:
    """Raise `QtradeError` unless a flash through `door` may go from `current` to `target`."""
    order = sequence(door)
    if current is None:
        legal: tuple[State, ...] = (State.PLANNED,)
    elif current in ENDS:
        legal = ()
    else:
        legal = (
            order[order.index(current) + 1],
            rules(door, current).on_failure,
            rules(door, order[order.index(current) + 1]).on_failure,
        )
    if target not in legal:
        raise QtradeError(
            f"a flash cannot go from {current} to {target}",
            details=f"legal from there: {', '.join(legal) or 'nothing'}",
            resolution="this is a defect of qtrade; the host was left as it is",
        )
