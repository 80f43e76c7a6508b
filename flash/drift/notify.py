"""Tell of drift: an event at Datadog, and a POST to the environment's webhook. Whoever does not answer stops nothing, and is warned about.

The webhook gets one JSON document (docs/architecture.md, "Drift"). With `auth: hmac` its headers are `X-Qtrade-Timestamp` (Unix
seconds) and `X-Qtrade-Signature`: `sha256=` and the hex HMAC-SHA-256 of `<timestamp>.<body>`, keyed with the secret; with
`auth: bearer`, `Authorization: Bearer <secret>`.
"""

import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import httpx

from flash.drift.look import HostReport
from flash.drift.report import host_document
from flash.monitors.api import DatadogApi
from flash.secrets import resolve
from qtrade.errors import QtradeError, ToolError
from qtrade.manifest import Environment
from qtrade.manifest.drift import Webhook
from qtrade.reporter import Reporter
from qtrade.settings import Settings

_TRIES = 3
_TIMEOUT_S = 10.0
_PAUSE_S = 1.0
_SHOWN = 20
_RETRIED = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Notice:
    """What is told of a host: its report, and what the policy did about it (empty: nothing)."""

    report: HostReport
    done: str = ""

    @property
    def title(self) -> str:
        """One line."""
        count = len(self.report.findings)
        return f"{self.report.host}: {f'{count} drifted' if count else 'no drift any more'}"

    @property
    def text(self) -> str:
        """Several lines, without values: they may be long, and are in the report."""
        lines = [f"{one.kind}: {one.subject}: {one.what}" for one in self.report.findings[:_SHOWN]]
        more = len(self.report.findings) - _SHOWN
        return "\n".join(
            [*lines, *([f"and {more} more"] if more > 0 else []), *([f"policy: {self.done}"] if self.done else [])]
        )


class Notifier:
    """Tells of the hosts of one environment. QTRADE_DATADOG_URL takes the place of the site's address."""

    def __init__(
        self,
        settings: Settings,
        environment: Environment,
        reporter: Reporter,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._environment, self._reporter, self._sleep = settings, environment, reporter, sleep
        self._datadog: DatadogApi | None = None
        self._secret = b""

    def __enter__(self) -> Self:
        access, webhook = self._environment.monitoring, self._environment.drift.webhook
        if self._environment.monitor_set != "none":
            try:
                key = resolve(
                    self._settings,
                    self._environment,
                    f"environment {self._environment.name}: monitoring.api_key",
                    access.api_key,
                ).decode()
                url = os.environ.get("QTRADE_DATADOG_URL")
                # Events want no application key.
                self._datadog = DatadogApi(access.site, key, "", url=url, sleep=self._sleep, tries=_TRIES)
            except QtradeError as error:
                self._reporter.say(f"warning: drift is not told to Datadog: {error.brief}")
        if webhook is not None:
            self._secret = resolve(
                self._settings,
                self._environment,
                f"environment {self._environment.name}: drift.webhook.secret",
                webhook.secret,
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._datadog is not None:
            self._datadog.__exit__(*error)

    def send(self, notice: Notice) -> bool:
        """Tell everybody, and return whether somebody took it."""
        webhook = self._environment.drift.webhook
        took = []
        if self._datadog is not None:
            took.append(self._try("Datadog", lambda: self._post_event(notice)))
        if webhook is not None:
            took.append(self._try("the webhook", lambda: self._post(webhook, notice)))
        return any(took)

    def _try(self, whom: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except QtradeError as error:
            self._reporter.say(f"warning: {whom} was not told of {self._environment.name}'s drift: {error.brief}")
            return False
        return True

    def _post_event(self, notice: Notice) -> None:
        if self._datadog is None:
            return
        report = notice.report
        tags = [
            f"host:{report.host}",
            f"env:{report.environment}",
            f"version:{report.version}",
            "event:drift",
            "source:qtrade",
        ]
        tags += sorted({f"drift:{one.kind}" for one in report.findings})
        kind = "warning" if report.drifted else "success"
        self._datadog.post_event(notice.title, notice.text, tags=tags, host=report.host, kind=kind)

    def _post(self, webhook: Webhook, notice: Notice) -> None:
        body = json.dumps(webhook_document(notice), sort_keys=True).encode()
        headers = {"Content-Type": "application/json", **sign(webhook, self._secret, body, int(time.time()))}
        problem = ""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(_PAUSE_S * 2**attempt)
            try:
                answer = httpx.post(
                    webhook.url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False
                )
            except httpx.HTTPError as error:
                problem = type(error).__name__
                continue
            if answer.is_success:
                return
            problem = f"HTTP {answer.status_code}"
            if answer.status_code not in _RETRIED:
                break
        raise ToolError(
            f"{webhook.url} does not take it: {problem}", resolution="correct drift.webhook in the environment"
        )


def webhook_document(notice: Notice) -> dict[str, Any]:
    """Return what a webhook gets."""
    return {
        "schema_version": 1,
        "event": "drift" if notice.report.drifted else "drift_cured",
        "title": notice.title,
        "done": notice.done,
        "report": host_document(notice.report),
    }


def sign(webhook: Webhook, secret: bytes, body: bytes, timestamp: int) -> dict[str, str]:
    """Return the headers that prove who sends."""
    if webhook.auth == "bearer":
        return {"Authorization": f"Bearer {secret.decode()}"}
    mac = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Qtrade-Timestamp": str(timestamp), "X-Qtrade-Signature": f"sha256={mac}"}
