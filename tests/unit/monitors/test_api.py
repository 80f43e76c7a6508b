"""Plans and changes against the shapes of Datadog's API, with its faults."""

import pytest

from flash.monitors import MonitorsPlan, apply_plan, plan_changes
from flash.monitors.api import DatadogApi, Gone, Unsure
from flash.monitors.apply import Applied
from flash.monitors.data import Kind
from qtrade import redaction
from qtrade.errors import ToolError
from qtrade.reporter import ConsoleReporter
from tests.fakes.datadog_server import API_KEY, APP_KEY, Fault

pytestmark = pytest.mark.unit
QUIET = ConsoleReporter(quiet=True)


def plan(api: DatadogApi, wanted: tuple) -> MonitorsPlan:
    return MonitorsPlan(
        "production", "demo 0.1.0", "datadoghq.test", plan_changes(wanted, api.find("production"), "production")
    )


def apply(api: DatadogApi, wanted: tuple) -> Applied:
    return apply_plan(api, plan(api, wanted), QUIET)


def test_applying_twice_changes_nothing_the_second_time(api, datadog, wanted) -> None:
    assert apply(api, wanted) == Applied(len(wanted), 0, 0, 0)
    datadog.requests.clear()
    assert apply(api, wanted) == Applied(0, 0, 0, len(wanted))
    assert datadog.changes() == []


def test_what_was_changed_by_hand_is_mended_and_the_rest_left(api, datadog, wanted) -> None:
    apply(api, wanted)
    monitor = next(iter(datadog.monitors.values()))
    monitor["options"]["thresholds"] = {"critical": 1e9}
    dashboard = next(iter(datadog.dashboards.values()))
    dashboard["widgets"][0]["definition"]["title"] = "by hand"
    assert apply(api, wanted) == Applied(0, 2, 0, len(wanted) - 2)
    assert monitor["id"] == int(next(iter(datadog.monitors)))
    assert apply(api, wanted) == Applied(0, 0, 0, len(wanted))


def test_only_what_is_ours_goes(api, datadog, wanted) -> None:
    apply(api, wanted)
    foreign = datadog.add_monitor({**wanted[-1].body, "tags": ["env:production", "team:other"]})
    by_hand = datadog.add_dashboard(
        {"title": "mine", "description": "managed by me", "layout_type": "free", "widgets": []}
    )
    kept = wanted[:3]
    assert apply(api, kept) == Applied(0, 0, len(wanted) - 3, 3)
    assert str(foreign["id"]) in datadog.monitors
    assert by_hand["id"] in datadog.dashboards


def test_more_than_a_page_is_read(api, datadog, wanted) -> None:
    monitor = next(one for one in wanted if one.kind is Kind.MONITOR)
    for _ in range(230):
        datadog.add_monitor(dict(monitor.body))
    assert len(api.find("production")) == 230
    assert apply(api, (monitor,)) == Applied(0, 0, 229, 1)


def test_a_refused_monitor_stops_it_all_before_the_first_change(api, datadog, wanted) -> None:
    last = wanted[-1]
    broken = type(last)(last.kind, last.key, {**last.body, "query": "nonsense"})
    with pytest.raises(ToolError, match="400") as caught:
        apply(api, (*wanted[:-1], broken))
    assert "parameter 'query' is invalid" in caught.value.details
    assert datadog.changes() == []


def test_refused_keys_are_said_and_never_shown(datadog) -> None:
    wrong = "deadbeef" * 4
    with DatadogApi("datadoghq.test", wrong, APP_KEY, url=datadog.url) as api, pytest.raises(ToolError) as caught:
        api.find("production")
    assert "refuses the keys (403)" in caught.value.brief
    assert wrong not in caught.value.render()
    assert redaction.redact(f"{wrong} {APP_KEY}") == "*** ***"


def test_too_many_requests_wait_as_long_as_datadog_says(api, datadog, waits, wanted) -> None:
    datadog.faults = [Fault("POST /api/v1/monitor", 429, times=2, headers={"X-RateLimit-Reset": "7"})]
    assert apply(api, wanted).created == len(wanted)
    assert waits == [7.0, 7.0]
    assert len(datadog.monitors) + len(datadog.dashboards) == len(wanted)


def test_patience_ends(api, datadog, waits) -> None:
    datadog.faults = [Fault("GET .*", 429, times=99, headers={"X-RateLimit-Reset": "100000"})]
    with pytest.raises(ToolError, match="too many requests"):
        api.find("production")
    assert waits == [120.0] * 4


def test_a_server_that_fails_is_asked_again(api, datadog, waits) -> None:
    datadog.faults = [Fault("GET /api/v1/monitor", 503, times=3)]
    assert api.find("production") == ()
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("kind", ["monitor", "dashboard"])
def test_a_creation_whose_answer_was_lost_is_not_made_twice(api, datadog, wanted, kind) -> None:
    datadog.faults = [Fault(f"POST /api/v1/{kind}", 502, does_it=True)]
    assert apply(api, wanted).created == len(wanted)
    assert datadog.faults[0].times == 0
    assert len(datadog.monitors) + len(datadog.dashboards) == len(wanted)


def test_a_creation_that_did_not_happen_is_made_again(api, datadog, wanted) -> None:
    datadog.faults = [Fault("POST /api/v1/monitor", 500)]
    assert apply(api, wanted).created == len(wanted)
    assert datadog.faults[0].times == 0
    assert len(datadog.monitors) + len(datadog.dashboards) == len(wanted)


def test_half_applied_goes_on_where_it_stopped(api, datadog, wanted) -> None:
    datadog.faults = [Fault("POST /api/v1/monitor", 403, skips=5)]
    with pytest.raises(ToolError, match="403"):
        apply(api, wanted)
    assert len(datadog.monitors) == 5
    there = 5 + len(datadog.dashboards)
    assert apply(api, wanted) == Applied(len(wanted) - there, 0, 0, there)


def test_what_vanished_since_the_plan_is_created_anew(api, datadog, wanted) -> None:
    apply(api, wanted)
    first = next(iter(datadog.monitors))
    datadog.monitors[first]["message"] = "by hand"
    ready = plan(api, wanted)
    del datadog.monitors[first]
    assert apply_plan(api, ready, QUIET).updated == 1
    assert "by hand" not in [one["message"] for one in datadog.monitors.values()]
    assert apply(api, wanted) == Applied(0, 0, 0, len(wanted))


def test_what_is_gone_already_is_well_deleted(api, datadog, wanted) -> None:
    apply(api, wanted)
    ready = plan(api, ())
    datadog.monitors.clear()
    datadog.dashboards.clear()
    assert apply_plan(api, ready, QUIET).deleted == len(wanted)
    with pytest.raises(Gone):
        api.update(Kind.DASHBOARD, "abc-def-1", dict(wanted[0].body))


def test_an_unreachable_site_is_a_clear_error(wanted) -> None:
    waits: list[float] = []
    with DatadogApi("datadoghq.test", API_KEY, APP_KEY, url="http://127.0.0.1:9", sleep=waits.append) as api:
        with pytest.raises(ToolError, match="cannot be reached"):
            api.find("production")
        with pytest.raises(Unsure):
            api.create(Kind.MONITOR, dict(next(one for one in wanted if one.kind is Kind.MONITOR).body))
