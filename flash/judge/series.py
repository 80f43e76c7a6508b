"""Samples in order: what counts of a host's metric between two moments, whatever the order in which it was recorded."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flash.judge.record import Sample
from qtrade.manifest.metrics import METRICS, Metric


@dataclass(frozen=True)
class Point:
    """One look at a metric: its value, or what a counter grew by (`seconds` since the look before); None where nothing came."""

    at: float
    value: float | None
    sample: Sample
    seconds: float = 0.0


class Series:
    """Samples by host and metric. With `wanted`, the metrics of each host that count, it keeps no others: a fleet's record is long."""

    def __init__(self, samples: Iterable[Sample], wanted: Mapping[str, Collection[str]] | None = None) -> None:
        self._found: dict[tuple[str, str], dict[float, Sample]] = {}
        for sample in samples:
            if wanted is not None and sample.metric not in wanted.get(sample.host, ()):
                continue
            looks = self._found.setdefault((sample.host, sample.metric), {})
            there = looks.get(sample.at)
            looks[sample.at] = sample if there is None else _worse(there, sample)

    def looks(
        self, host: str, metric: Metric, start: float, until: float, *, apart_s: float = 0.0
    ) -> tuple[Point, ...]:
        """Return the looks after `start` and up to `until`, in order of time; of a counter, what it grew by since the look before.

        The first look at a counter only says where it stands. Looks at it that follow another within `apart_s` are left out: it had no
        time to grow.
        """
        found = self._found.get((host, metric), {})
        ordered = [Point(at, usable(found[at].value), found[at]) for at in sorted(found) if start < at <= until]
        return tuple(_growth(ordered, apart_s) if METRICS[metric].is_counter else ordered)


def usable(value: float | None) -> float | None:
    """Return the value if one can reckon with it."""
    return value if value is not None and math.isfinite(value) else None


def values(points: Sequence[Point]) -> list[float]:
    """Return the values that came."""
    return [point.value for point in points if point.value is not None]


def rates(points: Sequence[Point]) -> list[tuple[float, Point]]:
    """Return value and point of each look that brought one: of a counter, the growth for each second."""
    return [(point.value / (point.seconds or 1.0), point) for point in points if point.value is not None]


def _worse(one: Sample, other: Sample) -> Sample:
    """Return one of two samples of the same moment: a value rather than none, the worse rather than the better."""
    first, second = usable(one.value), usable(other.value)
    if first is None or second is None:
        given = [sample for sample, value in ((one, first), (other, second)) if value is not None]
        return given[0] if given else min(one, other, key=lambda sample: sample.detail)
    if first == second:
        return min(one, other, key=lambda sample: sample.detail)
    more_is_better = METRICS[Metric(one.metric)].more_is_better if one.metric in list(Metric) else False
    return one if (first < second) == more_is_better else other


def _growth(ordered: Sequence[Point], apart_s: float) -> Iterator[Point]:
    """Yield what a counter grew by. One that fell was set back, and counts from zero."""
    last: Point | None = None
    for point in ordered:
        if point.value is None:
            yield point
            continue
        if last is None or last.value is None:
            last = point
            continue
        if point.at - last.at < apart_s:
            continue
        grown = point.value - last.value if point.value >= last.value else point.value
        yield Point(point.at, grown, point.sample, point.at - last.at)
        last = point
