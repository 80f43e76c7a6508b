"""The tests behind soft gates, on published examples and on what must hold for any values."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.judge.ranks import fisher_larger, mann_whitney, quantile, variance_inflation

pytestmark = pytest.mark.unit
MALES, FEMALES = (19, 22, 16, 29, 24), (20, 11, 17, 12)
VALUES = st.lists(st.integers(0, 30).map(float), min_size=1, max_size=40)


def test_the_example_that_scipy_documents() -> None:
    """scipy.stats.mannwhitneyu(males, females, method="asymptotic"): U 17, two-sided p 0.11134688653314041."""
    shift = mann_whitney([(MALES, FEMALES)])
    assert shift.superiority * 20 == 17
    assert shift.p_larger * 2 == pytest.approx(0.11134688653314041, abs=1e-12)
    assert mann_whitney([(FEMALES, MALES)]).p_smaller == pytest.approx(shift.p_larger, abs=1e-12)


def test_the_lady_tasting_tea() -> None:
    """Fisher, "The Design of Experiments" (1935): of eight cups, all four right 1/70, three or more 17/70."""
    assert fisher_larger(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert fisher_larger(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher_larger(0, 4, 4, 4) == pytest.approx(1)


@given(VALUES, VALUES)
def test_ranks_see_order_alone(first, second) -> None:
    shift, stretched = mann_whitney([(first, second)]), mann_whitney([([v**3 for v in first], [v**3 for v in second])])
    assert stretched == shift
    wins = sum((a > b) + (a == b) / 2 for a in first for b in second)
    assert shift.superiority == pytest.approx(wins / len(first) / len(second))


@given(VALUES, VALUES, st.integers(0, 39), st.floats(0.5, 50))
def test_a_larger_value_never_makes_the_first_look_smaller(first, second, place, more) -> None:
    worse = [value + more * (i == place % len(first)) for i, value in enumerate(first)]
    assert mann_whitney([(worse, second)]).superiority >= mann_whitney([(first, second)]).superiority


def test_what_moves_both_sides_from_one_stratum_to_the_next_is_no_difference() -> None:
    chance = random.Random(1)
    low = [[chance.gauss(0, 1) for _ in range(15)] for _ in range(2)]
    high = [[value + 100 for value in reversed(part)] for part in low]
    assert mann_whitney([(low[0] + high[0] * 2, low[1])]).p_larger < 0.01
    apart = mann_whitney([(low[0], low[1]), (high[0], high[1])])
    assert apart.superiority == pytest.approx(mann_whitney([(low[0], low[1])]).superiority)


def test_one_side_only_and_equal_values_say_nothing() -> None:
    assert mann_whitney([((1.0, 2.0), ())]).p_larger == 1
    same = mann_whitney([((0.0,) * 20, (0.0,) * 60)])
    assert (same.superiority, same.p_larger, same.p_smaller) == (0.5, 1, 1)


def test_values_that_follow_each_other_count_for_fewer() -> None:
    chance = random.Random(7)
    for r, low, high in ((0.0, 1.0, 1.3), (0.6, 2.7, 5.5)):
        value, series = 0.0, []
        for _ in range(600):
            value = r * value + chance.gauss(0, (1 - r * r) ** 0.5)
            series.append(value)
        assert low <= variance_inflation([series]) <= high, r
    assert variance_inflation([[1.0] * 50]) == 1
    assert variance_inflation([[]]) == 1
    # In parts, a step between them is no correlation.
    step = [chance.gauss(0, 1) for _ in range(50)], [chance.gauss(9, 1) for _ in range(50)]
    assert variance_inflation(step) < 1.6 < variance_inflation([[*step[0], *step[1]]])


def test_a_false_alarm_is_as_rare_as_it_is_said_to_be() -> None:
    chance = random.Random(3)
    for r in (0.0, 0.5):
        alarms = 0
        for _ in range(300):
            first, second = (_series(chance, r, count) for count in (40, 120))
            shift = mann_whitney([(first, second)], inflation=variance_inflation([first, second]))
            alarms += shift.p_larger < 0.05
        assert alarms <= 30, r


def _series(chance: random.Random, r: float, count: int) -> list[float]:
    value, found = chance.gauss(0, 1), []
    for _ in range(count):
        value = r * value + chance.gauss(0, (1 - r * r) ** 0.5)
        found.append(value)
    return found


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert [quantile((4, 1, 3, 2), share) for share in (0.25, 0.5, 0.95, 1)] == [1, 2, 4, 4]
