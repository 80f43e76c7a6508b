"""From what is wanted and what is there to changes."""

import pytest

from flash.monitors.data import Kind, Wanted, mark
from flash.monitors.plan import Action, Found, MonitorsPlan, find_difference, plan_changes, render_plan

pytestmark = pytest.mark.unit
BODY = {
    "name": "[production] One",
    "type": "query alert",
    "query": "max(last_5m):max:x{env:production} > 5",
    "message": "Do something.",
    "priority": 2,
    "tags": [],
    "options": {"thresholds": {"critical": 5.0}, "notify_no_data": False},
}


def monitor(key: str = "one", env: str = "production", **changes: object) -> Wanted:
    return mark(Wanted(Kind.MONITOR, key, {**BODY, **changes}), env)


def there(wanted: Wanted, identifier: str = "1", **changes: object) -> Found:
    """Return the object as Datadog answers it: with more fields, and tags in an order of its own."""
    body = {**wanted.body, "id": int(identifier), "creator": {}, "overall_state": "OK", **changes}
    body["tags"] = list(reversed(body["tags"]))
    body["options"] = {**body["options"], "silenced": {}}
    return Found(Kind.MONITOR, identifier, body)


def steps(*arguments: object, env: str = "production") -> list[tuple[Action, str, str]]:
    wanted, found = arguments
    return [(change.action, change.key, change.id) for change in plan_changes(wanted, found, env)]


def test_nothing_there_is_created() -> None:
    [change] = plan_changes([monitor()], [], "production")
    assert (change.action, change.reason, change.id) == (Action.CREATE, "not there", "")
    assert change.body == monitor().body


def test_what_is_as_it_has_to_be_stays() -> None:
    assert steps([monitor()], [there(monitor())]) == [(Action.KEEP, "one", "1")]


def test_a_new_threshold_is_an_update() -> None:
    wanted = monitor(options={"thresholds": {"critical": 9.0}})
    [change] = plan_changes([wanted], [there(monitor())], "production")
    assert (change.action, change.id) == (Action.UPDATE, "1")
    assert change.reason == "options.thresholds.critical is 5.0, has to be 9.0"


def test_what_somebody_changed_by_hand_is_mended() -> None:
    [change] = plan_changes([monitor()], [there(monitor(), options={"thresholds": {"critical": 50}})], "production")
    assert change.action is Action.UPDATE
    assert "options.thresholds.critical is 50" in change.reason


def test_an_option_that_the_data_dropped_is_mended_by_the_digest() -> None:
    before = monitor(options={**BODY["options"], "renotify_interval": 30})
    assert steps([monitor()], [there(before)]) == [(Action.UPDATE, "one", "1")]


def test_what_the_data_has_no_more_goes_last() -> None:
    assert steps([monitor("new")], [there(monitor("old"), "7")]) == [
        (Action.CREATE, "new", ""),
        (Action.DELETE, "old", "7"),
    ]


def test_others_are_left_alone() -> None:
    foreign = Found(Kind.MONITOR, "1", {**BODY, "tags": ["team:other", "env:production"]})
    staging = there(monitor(env="staging"), "2")
    dashboard = Found(Kind.DASHBOARD, "abc", {"title": "[production] One", "description": "by hand"})
    assert steps([], [foreign, staging, dashboard]) == []


def test_of_two_the_older_stays() -> None:
    assert steps([monitor()], [there(monitor(), "10"), there(monitor(), "9")]) == [
        (Action.DELETE, "one", "10"),
        (Action.KEEP, "one", "9"),
    ]


def test_another_type_is_another_monitor() -> None:
    wanted = monitor(type="log alert")
    assert steps([wanted], [there(monitor())]) == [(Action.CREATE, "one", ""), (Action.DELETE, "one", "1")]


def test_a_type_that_datadog_calls_otherwise_is_the_same() -> None:
    assert steps([monitor()], [there(monitor(), type="metric alert")]) == [(Action.KEEP, "one", "1")]


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}, ""),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b has 2 entries, has to have 1"),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 2, "id": 9}]}}, "a.b[0].c is 2, has to be 1"),
        ({"a": {"b": 1}}, {"a": None}, "a is None, has to be {'b': 1}"),
        ({"tags": ["b", "a"]}, {"tags": ["a", "b"]}, ""),
    ],
)
def test_differences_say_where(wanted, found, said) -> None:
    assert find_difference(wanted, found) == said


def test_the_plan_is_read_in_lines() -> None:
    changes = plan_changes([monitor(), monitor("two")], [there(monitor()), there(monitor("old"), "7")], "production")
    assert render_plan(MonitorsPlan("production", "demo 0.1.0", "datadoghq.eu", changes)).splitlines() == [
        "monitors of production on datadoghq.eu, metrics as in demo 0.1.0: 2 to change, 1 as they have to be",
        "  create  monitor two  not there",
        "  delete  monitor old  the data has it no more",
    ]
