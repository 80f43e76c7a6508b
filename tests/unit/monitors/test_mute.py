"""A flash mutes its host and marks its start and end; what fails there never stops it."""

import time
from datetime import datetime

import pytest

from flash.monitors import mute
from flash.monitors.mute import muted
from flash.plan import FlashPlan, plan_flash
from flash.states import State
from qtrade.errors import HostError
from qtrade.manifest.driver import Door
from tests.fakes.datadog_server import API_KEY, APP_KEY, Fault
from tests.fakes.flash import FakeContext
from tests.unit.flash.test_context import make_context

pytestmark = pytest.mark.unit


@pytest.fixture
def context(tmp_path, monkeypatch, datadog) -> FakeContext:
    monkeypatch.setenv("DD_API_KEY", API_KEY)
    monkeypatch.setenv("DD_APP_KEY", APP_KEY)
    monkeypatch.setenv("QTRADE_DATADOG_URL", datadog.url)
    monkeypatch.setattr(mute, "_sleep", lambda _: None)
    return make_context(tmp_path, None)


@pytest.fixture
def plan(context) -> FlashPlan:
    return plan_flash(context.host, context.image.image, Door.PXE)


def test_a_flash_is_silent_and_marked(context, plan, datadog) -> None:
    with muted(context, plan):
        ((identifier, downtime),) = datadog.downtimes.items()
        assert downtime["scope"] == "host:rpc-1"
        assert downtime["monitor_identifier"] == {"monitor_tags": ["*"]}
        # Should the controller be killed, the host is not mute for ever.
        end = datetime.fromisoformat(downtime["schedule"]["end"]).timestamp()
        assert end - time.time() == pytest.approx(sum(step.deadline_s for step in plan.steps) + 600, abs=60)
        assert datadog.canceled == []
        context.journal.write(State.COMMITTED, {})
    assert datadog.canceled == [identifier]
    assert [event["title"].partition("0.1.0 ")[2] for event in datadog.events] == ["begins", "ended COMMITTED"]
    assert [event["alert_type"] for event in datadog.events] == ["info", "success"]
    assert {"host:rpc-1", "env:development", "version:0.1.0", "event:deploy"} <= set(datadog.events[0]["tags"])
    assert context.reporter.lines == []


def test_a_flash_that_fails_is_marked_as_such_and_unmuted(context, plan, datadog) -> None:
    def fail() -> None:
        context.journal.write(State.ROLLED_BACK, {})
        raise HostError("it broke")

    with pytest.raises(HostError, match="it broke"), muted(context, plan):
        fail()
    assert (datadog.events[-1]["alert_type"], len(datadog.canceled)) == ("error", 1)


def test_a_flash_that_stays_open_stays_muted(context, plan, datadog) -> None:
    with muted(context, plan):
        context.journal.write(State.DRAINED, {})
    assert datadog.canceled == []
    assert datadog.events[-1]["title"].endswith("stopped after DRAINED")


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_whatever_datadog_answers_the_flash_goes_on_with_a_warning(context, plan, datadog, status) -> None:
    datadog.faults.append(Fault(".*", status, times=99))
    done = []
    with muted(context, plan):
        context.journal.write(State.COMMITTED, {})
        done.append(1)
    assert done == [1]
    assert datadog.downtimes == {}
    assert [line.split(":")[1] for line in context.reporter.lines] == [
        " the host's monitors are not muted",
        " no deploy marker was sent",
        " no deploy marker was sent",
    ]
    assert datadog.faults[0].times < 99
    assert not any(key in line for line in context.reporter.lines for key in (API_KEY, APP_KEY))


def test_a_datadog_that_cannot_be_reached_is_no_reason_to_stop(context, plan, monkeypatch) -> None:
    monkeypatch.setenv("QTRADE_DATADOG_URL", "http://127.0.0.1:1")
    with muted(context, plan):
        pass
    assert context.reporter.lines[0].startswith("warning: the host's monitors are not muted: ")


def test_without_keys_nothing_is_muted_and_that_is_said(context, plan, datadog, monkeypatch) -> None:
    monkeypatch.delenv("DD_APP_KEY")
    with muted(context, plan):
        pass
    assert datadog.requests == []
    assert context.reporter.lines == [
        "the host's monitors are not muted: environment development: monitoring.app_key: the environment variable DD_APP_KEY is not set"
    ]


def test_an_environment_without_monitors_mutes_none(context, plan, datadog) -> None:
    context.environment = context.environment.model_copy(update={"monitor_set": "none"})
    with muted(context, plan):
        pass
    assert (datadog.requests, context.reporter.lines) == ([], [])
