"""Gates: what has to hold on hosts with a new version while it soaks, by bounds and against control hosts, as data."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from qtrade.manifest.base import Model
from qtrade.manifest.metrics import METRICS, Metric


class GateKind(StrEnum):
    """A hard gate holds values to bounds, a soft one compares them with those of control hosts."""

    HARD = "hard"
    SOFT = "soft"


class HardGate(Model):
    """Bounds of a metric. The limits mean what they mean to Argo Rollouts (docs/judge.md), but that missing data never fails.

    Of a counter, what it grew by from one look to the next is held to the bounds.
    """

    at_most: float | None = Field(default=None, allow_inf_nan=False)
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    failure_limit: int = Field(default=0, ge=0, description="how many looks out of bounds do not fail the gate yet")
    consecutive_error_limit: int = Field(
        default=4, ge=0, description="how many looks in a row may bring nothing; more, and the gate is inconclusive"
    )
    consecutive_success_limit: int = Field(
        default=3, ge=0, description="how many looks in a row have to be good at the end; 0 asks for none"
    )
    minimum_samples: int = Field(default=5, ge=1, description="how many looks have to bring a value")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_most is None and self.at_least is None:
            raise ValueError("give at_most, at_least or both; with neither the gate holds nothing")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}: no value is good")
        return self


class SoftGate(Model):
    """How much worse than the control hosts a canary may be: by the share `worse_by`, and by `slack` in the metric's own unit on top.

    The tail is judged by itself: at most `tail_share` of all looks may be worse by `tail_worse_by` than the controls' 95th percentile.
    """

    worse_by: float = Field(ge=0, le=10)
    slack: float = Field(default=0, ge=0, allow_inf_nan=False)
    tail_worse_by: float = Field(default=0.5, ge=0, le=10)
    tail_share: float = Field(default=0.05, ge=0, lt=1)
    minimum_samples: int = Field(
        default=20, ge=5, description="how many values a host has to have; a counter's rates are one fewer than looks"
    )


HARD: dict[Metric, HardGate] = {
    Metric.VERSION: HardGate(at_least=1),
    Metric.WRONG_LAYERS: HardGate(at_most=0),
    Metric.UNPROVEN_DISKS: HardGate(at_most=0),
    Metric.FAILED_UNITS: HardGate(at_most=0),
    Metric.UNIT_RESTARTS: HardGate(at_most=0, failure_limit=1),
    Metric.CLOCK_SYNCHRONISED: HardGate(at_least=1, failure_limit=2),
    Metric.CLOCK_OFFSET_S: HardGate(at_most=0.1, failure_limit=2),
    Metric.LINK_SHORTFALL_MBIT: HardGate(at_most=0),
    Metric.MISSING_MOUNTS: HardGate(at_most=0),
    Metric.KERNEL_FAULTS: HardGate(at_most=0),
    Metric.RPC_HEALTHY: HardGate(at_least=1, failure_limit=2),
    Metric.SLOT_LAG: HardGate(at_most=100, failure_limit=3),
    Metric.GEYSER_SLOT: HardGate(at_least=1, failure_limit=1),
    Metric.POSTGRES_WRITES: HardGate(at_least=1, failure_limit=2),
    Metric.METRICS_SENT: HardGate(at_least=1, failure_limit=2),
}
SOFT: dict[Metric, SoftGate] = {
    Metric.RPC_P99_MS: SoftGate(worse_by=0.25, slack=1),
    Metric.SLOT: SoftGate(worse_by=0.1, slack=0.1),
    Metric.PACKET_DROPS: SoftGate(worse_by=0.5, slack=1),
    Metric.CPU_MHZ: SoftGate(worse_by=0.1, tail_worse_by=0.3),
}
_BOUNDS = ("at_most", "at_least")


class Gates(Model):
    """The gates of an environment. What is given of a gate stands above its default; `without` leaves one out, and says why.

    Gates of roles that an image does not have do not count for it.
    """

    interval_s: float = Field(default=15, ge=1, le=3600, description="seconds from one look at a host to the next")
    warm_up_s: float = Field(default=60, ge=0, le=86400, description="seconds after a deploy that no gate looks at")
    minimum_controls: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="hosts on the old version that soft gates need; with 0 they do not count where there is none",
    )
    confidence: float = Field(
        default=0.99,
        ge=0.9,
        lt=1,
        description="of all soft gates together before one fails, and of each before it passes",
    )
    hard: dict[Metric, HardGate] = Field(default_factory=lambda: dict(HARD))
    soft: dict[Metric, SoftGate] = Field(default_factory=lambda: dict(SOFT))
    without: dict[Metric, Annotated[str, Field(min_length=10, max_length=500)]] = Field(
        default_factory=dict, description="metrics that no gate looks at, each with the reason"
    )

    @field_validator("hard", "soft", mode="before")
    @classmethod
    def _above_the_defaults(cls, given: Any, info: Any) -> Any:
        defaults: dict[Metric, HardGate | SoftGate] = {**(HARD if info.field_name == "hard" else SOFT)}
        return (
            {**defaults, **{name: _laid_over(defaults, name, own) for name, own in given.items()}}
            if isinstance(given, dict)
            else given
        )

    @model_validator(mode="after")
    def _keeps_a_gate(self) -> Self:
        if not {*self.hard, *self.soft} - set(self.without):
            raise ValueError("without leaves out every gate: nothing would be judged, and nothing could pass")
        return self

    def for_roles(self, roles: tuple[str, ...]) -> "Gates":
        """Return the gates that count for an image with these roles."""
        hard = {metric: gate for metric, gate in self.hard.items() if set(METRICS[metric].roles) <= set(roles)}
        soft = {metric: gate for metric, gate in self.soft.items() if set(METRICS[metric].roles) <= set(roles)}
        return self.model_copy(update={"hard": hard, "soft": soft})

    def hard_only(self) -> "Gates":
        """Return the hard gates, for the last hosts of a fleet, which no control host is left for."""
        return self.model_copy(update={"soft": {}})

    def active(self, kind: GateKind) -> tuple[Metric, ...]:
        """Return the metrics of the gates that count, by name."""
        named = self.hard if kind is GateKind.HARD else self.soft
        return tuple(sorted(metric for metric in named if metric not in self.without))


def _laid_over(defaults: dict[Metric, Any], name: Any, own: Any) -> Any:
    """Return a gate's own fields above its default's; a bound of its own replaces the default's bounds."""
    if name not in list(Metric) or name not in defaults or not isinstance(own, dict):
        return own
    fields = defaults[Metric(name)].model_dump()
    if any(bound in own for bound in _BOUNDS):
        fields = {field: value for field, value in fields.items() if field not in _BOUNDS}
    return {**fields, **own}
