"""The two tests that soft gates stand on, without assumptions about how values are distributed; the standard library has all they need.

SciPy has both (`mannwhitneyu`, `fisher_exact`), and would bring NumPy and tens of megabytes for these few lines; the tests hold them to
published values.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

_NORMAL = NormalDist()
# A series that hardly moves tells next to nothing new with each value: beyond this, more of it is not believed.
_MOST_CORRELATION = 0.9


@dataclass(frozen=True)
class Shift:
    """How the first series lies to the second: the chance that a value of it is the larger one (a tie is half of one), and p-values."""

    superiority: float
    p_larger: float
    p_smaller: float


Strata = Sequence[tuple[Sequence[float], Sequence[float]]]


def mann_whitney(strata: Strata, *, inflation: float = 1.0) -> Shift:
    """Compare two samples by ranks, within strata: pairs of values of the first and of the second. The p-values are one-sided.

    Mann & Whitney, "On a Test of Whether one of Two Random Variables is Stochastically Larger than the Other" (1947), by the normal
    approximation with correction for ties and continuity, good from about 8 values each. U and its variance add up over strata (van
    Elteren, "On the combination of independent two-sample tests of Wilcoxon", 1960): what moves both sides from one stratum to the
    next has no part in it. A stratum with one side only says nothing. `inflation` multiplies the variance: values that follow each
    other closely in time are no independent ones (`variance_inflation`).
    """
    u = pairs = variance = 0.0
    for first, second in strata:
        n, m = len(first), len(second)
        if not n or not m:
            continue
        wins, ties = _count_wins(sorted(first), sorted(second))
        total = n + m
        u, pairs = u + wins, pairs + n * m
        variance += n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
    if variance <= 0:
        return Shift(u / pairs if pairs else 0.5, 1.0, 1.0)
    sigma = math.sqrt(variance * inflation)
    larger = 1 - _NORMAL.cdf((u - pairs / 2 - 0.5) / sigma)
    return Shift(u / pairs, larger, _NORMAL.cdf((u - pairs / 2 + 0.5) / sigma))


def _count_wins(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return U of the first and the sum of t³ - t over groups of equal values. Both come sorted."""
    wins, ties = 0.0, 0.0
    place = other = 0
    while place < len(first) or other < len(second):
        smallest = min(
            ([first[place]] if place < len(first) else []) + ([second[other]] if other < len(second) else [])
        )
        same, same_other = _run(first, place, smallest), _run(second, other, smallest)
        wins += same * (other + same_other / 2)
        ties += (same + same_other) ** 3 - (same + same_other)
        place, other = place + same, other + same_other
    return wins, ties


def _run(values: list[float], place: int, value: float) -> int:
    end = place
    while end < len(values) and values[end] == value:
        end += 1
    return end - place


def fisher_larger(hits: int, of: int, other_hits: int, of_other: int) -> float:
    """Return the chance of so many or more of the hits in the first group, if both groups had the same rate.

    Fisher, "Statistical Methods for Research Workers" (1925), the exact one-sided test of a table of four fields.
    """
    every, total = hits + other_hits, of + of_other
    most = min(every, of)
    ways = sum(
        math.comb(every, k) * math.comb(total - every, of - k) for k in range(hits, most + 1) if of - k <= total - every
    )
    return ways / math.comb(total, of)


def variance_inflation(parts: Iterable[Sequence[float]]) -> float:
    """Return by how much the variance of a mean is larger than over as many independent values, at least 1. Parts are in order of time.

    (1 + r) / (1 - r) with the lag-1 autocorrelation r of the ranks within each part, as of a first-order autoregression: Bayley &
    Hammersley, "The 'Effective' Number of Independent Observations in an Autocorrelated Time Series" (1946). Short series show less of r
    than there is; that bias is taken out (Marriott & Pope, "Bias in the estimation of autocorrelations", 1954).
    """
    together = spread = weight = 0.0
    count = 0
    for part in parts:
        order = sorted(part)
        ranks = [_rank(order, value) for value in part]
        middle = sum(ranks) / max(1, len(ranks))
        spread += sum((rank - middle) ** 2 for rank in ranks)
        together += sum((a - middle) * (b - middle) for a, b in pairwise(ranks))
        weight, count = weight + len(ranks), count + 1
    if spread == 0:
        return 1.0
    r = together / spread
    r = min(max(r + (1 + 4 * r) * count / weight, 0.0), _MOST_CORRELATION)
    return (1 + r) / (1 - r)


def _rank(order: list[float], value: float) -> float:
    """Return the place of a value among sorted ones, the middle of those of its equals."""
    return (bisect_left(order, value) + bisect_right(order, value)) / 2


def quantile(values: Sequence[float], share: float) -> float:
    """Return the empirical quantile: the smallest value that at least `share` of all are not above (Hyndman & Fan's type 1)."""
    order = sorted(values)
    return order[max(0, math.ceil(share * len(order)) - 1)]
