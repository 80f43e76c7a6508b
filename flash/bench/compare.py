"""Compare what was measured with two versions, on machines of one class and under the same load. Pure.

A host's records are samples for a judge too: metrics have the same names there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from flash.judge.record import Sample
from qtrade.trust.fleet_facts import Bench

# More of these is worse; of all others, such as rates, more is better.
_COSTS = ("_ms", "_share", "_gaps")
_TOLERANCE = 0.1
# Below this a share or a count of gaps is as good as none, and a ratio says nothing.
_LEAST = 1e-9


class Change(StrEnum):
    """How a version did against another."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """One metric on one class: medians of so many records, and by what share the later version is worse (below 0: better)."""

    metric: str
    hardware_class: str
    change: Change
    before: float | None = None
    after: float | None = None
    records: tuple[int, int] = (0, 0)
    worse_by: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """All metrics of two versions."""

    recipe: str
    before: str
    after: str
    rows: tuple[Row, ...]

    @property
    def worse(self) -> tuple[Row, ...]:
        """Return what got worse by more than is tolerated."""
        return tuple(row for row in self.rows if row.change is Change.WORSE)


def compare_records(
    before: Sequence[Bench], after: Sequence[Bench], tolerances: Mapping[str, float], only_class: str | None = None
) -> tuple[Row, ...]:
    """Return a row for each metric that either version has, by class and name."""
    groups = (_group(before), _group(after))
    rows: list[Row] = []
    for key in sorted({*groups[0], *groups[1]}):
        if only_class is not None and key[0] != only_class:
            continue
        old, new = groups[0].get(key, []), groups[1].get(key, [])
        names = sorted({name for one in (*old, *new) for name in (*one.metrics, *one.missing)})
        rows += [_compare(name, key[0], old, new, tolerances.get(name, _TOLERANCE)) for name in names]
    return tuple(rows)


def samples_of(record: Bench) -> tuple[Sample, ...]:
    """Return a record as the samples that a judge reads; what was not measured has no value, and says why."""
    measured = [Sample(record.host, name, float(record.at), value) for name, value in sorted(record.metrics.items())]
    missing = [Sample(record.host, name, float(record.at), None, why) for name, why in sorted(record.missing.items())]
    return (*measured, *missing)


def _group(records: Iterable[Bench]) -> dict[tuple[str, str, str], list[Bench]]:
    """Return records by what makes them comparable: class, kind, and the load that was asked for."""
    groups: dict[tuple[str, str, str], list[Bench]] = {}
    for one in records:
        key = (one.hardware_class, one.kind, json.dumps(one.asked, sort_keys=True, default=str))
        groups.setdefault(key, []).append(one)
    return groups


def _compare(metric: str, name: str, old: Sequence[Bench], new: Sequence[Bench], tolerance: float) -> Row:
    values = [[one.metrics[metric] for one in side if metric in one.metrics] for side in (old, new)]
    counts = (len(values[0]), len(values[1]))
    if not all(values):
        which = [text for text, side in zip(("the earlier", "the later"), values, strict=True) if not side]
        why = f"not measured with {' and '.join(which)} version under this load"
        reasons = {one.missing[metric] for one in (*old, *new) if metric in one.missing}
        return Row(metric, name, Change.UNKNOWN, records=counts, why="; ".join((why, *sorted(reasons))))
    before, after = median(values[0]), median(values[1])
    worse_by = _worse_by(metric, before, after)
    change = Change.SAME
    if abs(worse_by) > tolerance:
        change = Change.WORSE if worse_by > 0 else Change.BETTER
    return Row(metric, name, change, before, after, counts, round(worse_by, 4))


def _worse_by(metric: str, before: float, after: float) -> float:
    """Return by what share of the earlier value the later one is worse; from nothing to something is all of it."""
    from_nothing = 0.0 if abs(after) < _LEAST else 1.0
    grown = from_nothing if abs(before) < _LEAST else (after - before) / abs(before)
    return grown if metric.endswith(_COSTS) else -grown
