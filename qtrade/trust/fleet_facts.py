"""What a fleet finds out about an image, as predicates: a rollout, the suite on hosts, a load, a second operator's word.

The machine that deploys signs the first three (job key; `qtrade.trust.attest`), another operator the last (promote key).
"""

from typing import Any, Literal

from pydantic import Field

from qtrade.trust.predicate import Predicate


class Rollout(Predicate):
    """A rollout through an environment that was committed: all `hosts` run the image, and no gate failed.

    `soak_s` is the shortest time that any of them ran it under judgement, `committed_at` is in Unix seconds; people find its journal by
    `rollout`.
    """

    environment: str
    version: str
    hosts: tuple[str, ...] = Field(min_length=1)
    soak_s: int = Field(ge=0)
    committed_at: int = Field(ge=0)
    rollout: str = ""


class Integration(Predicate):
    """The integration suite on the hosts of an environment that run the image; `failures` are `host: check: what it told`."""

    environment: str
    version: str
    hosts: tuple[str, ...]
    passed: bool
    failures: tuple[str, ...] = ()
    at: int = Field(ge=0)


class Bench(Predicate):
    """A measurement of the image on one host: `load` has a verdict, `host` has figures only.

    A metric that could not be measured stands in `missing` with the reason, and never as 0. `hardware_class` names the machine as the host
    itself shows it; only records of one class are compared. `asked` are the bounds that it ran with, `reasons` say why it did not pass.
    """

    kind: Literal["load", "host"]
    host: str
    environment: str
    recipe: str
    version: str
    hardware_class: str
    at: int = Field(ge=0)
    seconds: float = Field(ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)
    missing: dict[str, str] = Field(default_factory=dict)
    asked: dict[str, Any] = Field(default_factory=dict)
    passed: bool = True
    reasons: tuple[str, ...] = ()


class Approval(Predicate):
    """Another operator's half of a promotion: the envelope of the promotion that the approver's key has signed, and until when it counts.

    Who promotes adds a signature to that very envelope, so that both have signed the same bytes. `until` in Unix seconds.
    """

    channel: str
    recipe: str
    version: str
    sequence: int = Field(ge=1)
    expires: int
    until: int
    by: str = ""
    promotion: dict[str, Any]
