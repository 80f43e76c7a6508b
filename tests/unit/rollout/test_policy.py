"""What an environment may say of its rollouts."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from qtrade.manifest import Environment
from qtrade.manifest.rollout import DAYS, RolloutPolicy, Window

pytestmark = pytest.mark.unit


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ({}, "2026-03-02T12:00", "2026-03-02T12:00"),
        ({"days": ["tue"]}, "2026-03-02T12:00", "2026-03-03T00:00"),
        ({"start": "22:00", "until": "02:00"}, "2026-03-02T23:30", "2026-03-02T23:30"),
        ({"start": "22:00", "until": "02:00"}, "2026-03-03T01:59", "2026-03-03T01:59"),
        ({"start": "22:00", "until": "02:00"}, "2026-03-03T02:00", "2026-03-03T22:00"),
        ({"days": ["mon"], "start": "22:00", "until": "02:00"}, "2026-03-03T01:00", "2026-03-03T01:00"),
        ({"days": ["mon"], "start": "08:00", "until": "09:00"}, "2026-03-02T09:00", "2026-03-09T08:00"),
        ({"start": "08:00", "until": "09:00", "time_zone": "Europe/Zurich"}, "2026-07-01T03:00", "2026-07-01T06:00"),
    ],
)
def test_a_window_opens(window: dict[str, Any], now: str, opens: str) -> None:
    assert Window.model_validate(window).opens(at(now)) == at(opens)


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.times().map(lambda one: f"{one:%H:%M}"),
    st.times().map(lambda one: f"{one:%H:%M}"),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"]),
    st.integers(1_700_000_000, 1_900_000_000),
)
def test_a_window_that_has_opened_is_open(days: set[Any], start: str, until: str, zone: str, now: int) -> None:
    window = Window(days=tuple(days), start=start, until=until, time_zone=zone)
    opens = window.opens(now)
    assert now <= opens < now + 8.1 * 86400
    assert window.opens(opens) == opens


def test_the_first_window_counts() -> None:
    policy = RolloutPolicy.model_validate({"windows": [{"days": ["fri"]}, {"days": ["wed"]}]})
    assert policy.opens(at("2026-03-02T12:00")) == at("2026-03-04T00:00")
    assert RolloutPolicy().opens(5.0) == 5.0


@pytest.mark.parametrize(("cap", "hosts", "count"), [(3, 100, 3), ("5%", 100, 5), ("5%", 10, 1), ("100%", 7, 7)])
def test_a_cap_is_a_number_or_a_share(cap: Any, hosts: int, count: int) -> None:
    assert RolloutPolicy.model_validate({"max_unavailable": {"rpc": cap}}).cap_of("rpc", hosts) == count
    assert RolloutPolicy().cap_of("rpc", hosts) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"steps": [{"percent": 50}]}, "steps go up to 100 percent"),
        ({"steps": [{"percent": 50}, {"percent": 10}, {"percent": 100}]}, "each further than the one before"),
        ({"steps": []}, "at least 1"),
        ({"windows": [{"time_zone": "Mars/Olympus"}]}, "there is no time zone 'Mars/Olympus'"),
        ({"windows": [{"time_zone": "../../etc/passwd"}]}, "there is no time zone"),
        ({"windows": [{"start": 1320}]}, "22:00 as the number 1320"),
        ({"windows": [{"days": ["friday"]}]}, "'mon'"),
        ({"max_unavailable": {"rpc": "0%"}}, "pattern"),
        ({"max_unavailable": {"rpc": 0}}, "greater than or equal to 1"),
        ({"max_parallel": 0}, "greater than or equal to 1"),
        ({"canary": 1}, "Extra inputs"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Environment.model_validate({"schema_version": 1, "name": "staging", "rollout": fields})
