"""Rollouts in the store: the last one of each environment as its controller published it, and what somebody ordered of it.

Only who holds the environment's lease publishes, with its token: a controller that was taken for dead and wakes up is refused.
"""

import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from qtrade.errors import ConflictError, TrustError
from qtrade.store.objects import Changed, Missing, Objects, key_of

OrderKind = Literal["pause", "abort"]


@dataclass(frozen=True)
class RolloutRecord:
    """A rollout as its controller saw it at `at` (Unix seconds); `plan` and `progress` are documents that flash reads and writes."""

    id: str
    environment: str
    recipe: str
    version: str
    image: str
    phase: str
    holder: str
    token: int
    at: float
    plan: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What somebody wants of a rollout that runs, perhaps elsewhere."""

    rollout: str
    kind: OrderKind
    by: str
    at: float
    nonce: str


class Superseded(ConflictError):
    """Another controller has taken the rollout over."""


class Rollouts:
    """The rollouts of a store, one an environment at a time."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, environment: str) -> RolloutRecord | None:
        """Return the last rollout of an environment, or None. Raises `TrustError` when its record is damaged."""
        found = self._read(environment)
        return found[0] if found else None

    def publish(self, record: RolloutRecord) -> None:
        """Replace the record. Raises `Superseded` when somebody with a greater token did so meanwhile."""
        found = self._read(record.environment)
        if found is not None and found[0].token > record.token:
            raise Superseded(
                f"the rollout to {record.environment} was taken over by {found[0].holder} (token {found[0].token})",
                details=f"this controller has token {record.token}",
                resolution=f"look at it with `qtrade rollout status --env {record.environment}`",
            )
        content = json.dumps({"schema_version": 1, **asdict(record)}, sort_keys=True).encode()
        try:
            self._objects.put_if(_record_key(record.environment), content, found[1] if found else None)
        except Changed as error:
            raise Superseded(
                f"somebody else published a rollout to {record.environment} at the same time",
                resolution=f"look at it with `qtrade rollout status --env {record.environment}`",
            ) from error

    def order(self, environment: str, rollout: str, kind: OrderKind, by: str) -> Order:
        """Order something of a rollout; its controller looks every few seconds."""
        order = Order(rollout, kind, by, time.time(), secrets.token_hex(8))
        self._objects.put(_order_key(environment), json.dumps(asdict(order), sort_keys=True).encode())
        return order

    def ordered(self, environment: str, rollout: str) -> Order | None:
        """Return what is ordered of that rollout, or None."""
        try:
            order = Order(**json.loads(self._objects.get(_order_key(environment))[0]))
        except (Missing, ValueError, TypeError):
            return None
        return order if order.rollout == rollout else None

    def forget_order(self, environment: str) -> None:
        """Remove an order that was obeyed, or that somebody takes back."""
        self._objects.delete(_order_key(environment))

    def _read(self, environment: str) -> tuple[RolloutRecord, str] | None:
        try:
            content, etag = self._objects.get(_record_key(environment))
            fields = json.loads(content)
            del fields["schema_version"]
            return RolloutRecord(**fields), etag
        except Missing:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrustError(
                f"the record of the rollout to {environment} is damaged in the store",
                details=str(error),
                resolution=f"make sure that no rollout runs, then delete {_record_key(environment)} there",
            ) from error


def _record_key(environment: str) -> str:
    return f"{key_of('rollouts', environment)}.json"


def _order_key(environment: str) -> str:
    return f"{key_of('rollouts', environment)}.order.json"
