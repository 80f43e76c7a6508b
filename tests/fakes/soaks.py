"""Generated soaks: what a collector would have recorded of healthy hosts, and what scenarios change of it. Seeded; no clock."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from flash.judge.decide import judge
from flash.judge.record import Judgement, Sample
from qtrade.manifest.gates import Gates
from qtrade.manifest.metrics import METRICS, Metric

DEPLOYED = 10_000.0
INTERVAL_S = 15.0
# What a healthy host shows: of counters, the growth for each second.
HEALTHY: dict[Metric, float] = {
    Metric.VERSION: 1, Metric.WRONG_LAYERS: 0, Metric.UNPROVEN_DISKS: 0, Metric.FAILED_UNITS: 0, Metric.UNIT_RESTARTS: 0,
    Metric.CLOCK_SYNCHRONISED: 1, Metric.CLOCK_OFFSET_S: 0.0002, Metric.LINK_SHORTFALL_MBIT: 0, Metric.MISSING_MOUNTS: 0,
    Metric.KERNEL_FAULTS: 0, Metric.RPC_HEALTHY: 1, Metric.SLOT_LAG: 2, Metric.SLOT: 2.5, Metric.RPC_P99_MS: 20,
    Metric.GEYSER_SLOT: 2.5, Metric.POSTGRES_WRITES: 40, Metric.METRICS_SENT: 30, Metric.PACKET_DROPS: 0.2, Metric.CPU_MHZ: 3400,
}  # fmt: skip
# How much values scatter, as the sigma of their logarithm; what is not named does not.
NOISE: dict[Metric, float] = {
    Metric.RPC_P99_MS: 0.25, Metric.SLOT: 0.03, Metric.GEYSER_SLOT: 0.03, Metric.PACKET_DROPS: 0.5, Metric.CPU_MHZ: 0.02,
    Metric.POSTGRES_WRITES: 0.3, Metric.METRICS_SENT: 0.1, Metric.CLOCK_OFFSET_S: 0.5,
}  # fmt: skip

# Changes a value of a host: (host, metric, seconds since the deploy, value) -> value, None for nothing, or a reason as text.
Change = Callable[[str, Metric, float, float], float | str | None]


@dataclass(frozen=True)
class Soak:
    """A soak to be generated. `correlation` is that of a value with the one before, `spread` that of hosts, as a sigma of the logarithm."""

    seed: int = 1
    canaries: tuple[str, ...] = ("canary-1",)
    controls: tuple[str, ...] = ("control-1", "control-2", "control-3")
    soak_s: float = 1200
    before_s: float = 0
    noise: float = 1.0
    correlation: float = 0.3
    spread: float = 0.03
    metrics: tuple[Metric, ...] = tuple(HEALTHY)
    gates: Gates = field(default_factory=Gates)
    changes: tuple[Change, ...] = ()

    @property
    def until(self) -> float:
        return DEPLOYED + self.soak_s

    def changed(self, *changes: Change) -> "Soak":
        return replace(self, changes=self.changes + changes)

    def samples(self) -> list[Sample]:
        """Return the samples in order of time."""
        found = [
            one
            for host in (*self.canaries, *self.controls)
            for metric in self.metrics
            for one in self._series(host, metric)
        ]
        return sorted(found, key=lambda one: one.at)

    def judge(self, samples: Iterable[Sample] | None = None) -> Judgement:
        """Return what the judge says of it."""
        given = self.samples() if samples is None else samples
        return judge(self.gates, given, self.canaries, self.controls, DEPLOYED, self.until)

    def _series(self, host: str, metric: Metric) -> list[Sample]:
        chance = random.Random(f"{self.seed} {host} {metric}")
        sigma = NOISE.get(metric, 0.0) * self.noise
        own = math.exp(chance.gauss(0, self.spread)) if sigma else 1.0
        start = DEPLOYED - self.before_s + chance.uniform(0, 0.2) * INTERVAL_S
        noise, total, last = chance.gauss(0, 1), 1000.0, start - INTERVAL_S
        found = []
        for look in range(int((self.until - start) // INTERVAL_S) + 1):
            at = start + look * INTERVAL_S
            noise = self.correlation * noise + math.sqrt(1 - self.correlation**2) * chance.gauss(0, 1)
            value: float | str | None = HEALTHY[metric] * own * math.exp(sigma * noise)
            for change in self.changes:
                value = change(host, metric, at - DEPLOYED, value) if isinstance(value, float | int) else value
            if isinstance(value, str) or value is None:
                found.append(Sample(host, metric, at, None, value or "no answer"))
                continue
            if METRICS[metric].is_counter:
                total, last = total + value * (at - last), at
            found.append(Sample(host, metric, round(at, 3), total if METRICS[metric].is_counter else value))
        return found


def on(hosts: Sequence[str] | str, metric: Metric, what: Callable[[float, float], float | str | None]) -> Change:
    """Return a change of one metric of some hosts: (seconds since the deploy, value) -> value."""
    names = (hosts,) if isinstance(hosts, str) else tuple(hosts)
    return lambda host, found, t, value: what(t, value) if host in names and found is metric else value
