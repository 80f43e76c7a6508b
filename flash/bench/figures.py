"""Figures by metric name, made of what was told by a host, and judged. Pure.

A figure that is not there stands in `missing` with its reason: it is never 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SHOWN = 120


@dataclass(frozen=True)
class Figures:
    """What was measured, what was not and why, and why a load did not pass."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def plus(self, more: "Figures") -> "Figures":
        """Return both together."""
        return Figures(
            {**self.metrics, **more.metrics}, {**self.missing, **more.missing}, (*self.reasons, *more.reasons)
        )


def read_figures(prefix: str, told: Mapping[str, Any], names: tuple[str, ...]) -> Figures:
    """Return the figures called `names`, as `<prefix><name>`; one that is no finite number, or not there, is missing."""
    metrics, missing = {}, {}
    for name in names:
        value = told.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            metrics[f"{prefix}{name}"] = float(value)
        else:
            missing[f"{prefix}{name}"] = "not told"
    return Figures(metrics, missing)


def rpc_figures(result: Mapping[str, Any]) -> Figures:
    """Return the figures of an RPC load: quantiles from the moments when requests were due, share of failures, rate of answers."""
    latency = result.get("latency")
    found = read_figures(
        "bench.rpc_",
        {**(latency if isinstance(latency, dict) else {}), **result},
        ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "error_share", "achieved_rps"),
    )
    reasons = read_reasons("rpc", result)
    failures = result.get("failures")
    if reasons and isinstance(failures, dict) and failures:
        counted = ", ".join(f"{str(name)[:60]}: {count}" for name, count in list(failures.items())[:3])
        reasons = (*reasons, f"rpc failures: {counted}"[:_SHOWN])
    return found.plus(Figures(reasons=reasons))


def read_reasons(kind: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return why a load did not pass, as the host tells; one that tells no reasons at all did not say that it passed."""
    reasons = result.get("reasons")
    if not isinstance(reasons, list):
        return (f"{kind}: it does not tell whether it passed",)
    return tuple(f"{kind}: {str(one)[:_SHOWN]}" for one in reasons[:5])


def judge_figures(figures: Figures, limits: Mapping[str, float]) -> tuple[str, ...]:
    """Return why a load did not pass: its own reasons, limits that were exceeded, and limits of what was not measured."""
    found = list(figures.reasons)
    for metric, limit in sorted(limits.items()):
        value = figures.metrics.get(metric)
        if value is None:
            found.append(f"{metric} was not measured, and has a limit of {limit:g}")
        elif value > limit:
            found.append(f"{metric} is {value:g}, its limit is {limit:g}")
    if not figures.metrics:
        found.append("nothing was measured")
    return tuple(found)
