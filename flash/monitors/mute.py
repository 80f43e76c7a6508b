"""A flash as Datadog sees it: the host's monitors are silent meanwhile, and an event marks its start and its end.

What fails here warns and never stops a flash.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flash.context import FlashContext
from flash.monitors.api import DatadogApi
from flash.plan import FlashPlan
from flash.secrets import resolve
from flash.states import ENDS, State
from qtrade.errors import NotFound, QtradeError

# Monitors look minutes back: a host that was silent until now would be told of once more.
_AFTER_S = 600.0


_TRIES = 2
_LONGEST_WAIT_S = 5.0


@contextmanager
def muted(context: FlashContext, plan: FlashPlan) -> Iterator[None]:
    """Keep the host's monitors silent while the block runs. QTRADE_DATADOG_URL takes the place of the site's address.

    A flash that is left open stays muted until its deadlines are over; one that is taken up is muted anew.
    """
    client = _connect(context)
    if client is None:
        yield
        return
    with client:
        # All states one after the other, and not for ever: a controller that is killed unmutes nothing.
        until = time.time() + sum(step.deadline_s for step in plan.steps) + _AFTER_S
        muting = ""
        with _patient(context, "the host's monitors are not muted"):
            muting = client.mute(f"host:{plan.host}", until=until, message=_title(plan))
        _mark(context, client, plan, "begins", "info")
        try:
            yield
        finally:
            _finish(context, client, plan, muting)


def _connect(context: FlashContext) -> DatadogApi | None:
    access = context.environment.monitoring
    if context.environment.monitor_set == "none":
        return None
    try:
        keys = [
            resolve(
                context.settings,
                context.environment,
                f"environment {context.environment.name}: monitoring.{name}",
                reference,
            ).decode()
            for name, reference in (("api_key", access.api_key), ("app_key", access.app_key))
        ]
        url = os.environ.get("QTRADE_DATADOG_URL")
        return DatadogApi(access.site, keys[0], keys[1], url=url, sleep=_sleep, tries=_TRIES)
    except NotFound as error:
        context.reporter.say(f"the host's monitors are not muted: {error.brief}")
    except QtradeError as error:
        context.reporter.say(f"warning: the host's monitors are not muted: {error.brief}")
    return None


def _finish(context: FlashContext, client: DatadogApi, plan: FlashPlan, muting: str) -> None:
    state = context.journal.state
    if state not in ENDS:
        _mark(context, client, plan, f"stopped after {state}", "info")
        return
    _mark(context, client, plan, f"ended {state}", "success" if state is State.COMMITTED else "error")
    if muting:
        with _patient(context, "the host's monitors stay muted until the flash's deadlines are over"):
            client.unmute(muting)


def _mark(context: FlashContext, client: DatadogApi, plan: FlashPlan, what: str, kind: str) -> None:
    tags = [f"host:{plan.host}", f"env:{plan.environment}", f"version:{plan.version}", "event:deploy", "source:qtrade"]
    text = f"{plan.recipe} {plan.version}, image {plan.image[:16]}, door {plan.door}"
    with _patient(context, "no deploy marker was sent"):
        client.post_event(f"{_title(plan)} {what}", text, tags=tags, host=plan.host, kind=kind)


@contextmanager
def _patient(context: FlashContext, what: str) -> Iterator[None]:
    try:
        yield
    except QtradeError as error:
        context.reporter.say(f"warning: {what}: {error.brief}")


def _sleep(seconds: float) -> None:
    # A host waits for its flash, not for its monitors.
    time.sleep(min(seconds, _LONGEST_WAIT_S))


def _title(plan: FlashPlan) -> str:
    return f"qtrade flash of {plan.host} with {plan.recipe} {plan.version}"
