"""Datadog's API through its official client, with patience for its limits. Keys go to the client and the redaction, and nowhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from itertools import count
from types import ModuleType
from typing import Any, Protocol, Self

from flash.monitors.data import OWNER, Kind, read_mark
from flash.monitors.plan import Found
from qtrade.errors import QtradeError, ToolError, UsageError
from qtrade.redaction import register_secret

_PAGE = 100
_TRIES = 5
_LONGEST_WAIT_S = 120.0
_TIMEOUT_S = 30.0
_TOO_MANY = 429
_SERVER_FAULT = 500
_NOT_FOUND = 404


class Unsure(ToolError):
    """Nobody knows whether a request was carried out: the answer was lost, or said that the server failed."""


class Gone(ToolError):
    """The object is not there any more."""


class MonitoringApi(Protocol):
    """What `apply` needs of Datadog."""

    def find(self, env: str) -> tuple[Found, ...]:
        """Return the objects that bear our mark."""
        ...

    def validate(self, kind: Kind, body: dict[str, Any]) -> None:
        """Raise `ToolError` for a body that would be refused."""

    def create(self, kind: Kind, body: dict[str, Any]) -> str:
        """Create an object and return its id. Raises `Unsure`."""
        ...

    def update(self, kind: Kind, identifier: str, body: dict[str, Any]) -> None:
        """Replace an object. Raises `Gone`."""

    def delete(self, kind: Kind, identifier: str) -> None:
        """Delete an object; one that is gone is no error."""


class DatadogApi:
    """The API of one site. `url` is for tests and proxies; else `https://api.<site>`."""

    def __init__(
        self,
        site: str,
        api_key: str,
        app_key: str,
        *,
        url: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = _TRIES,
    ) -> None:
        client = _import_client()
        for key in (api_key, app_key):
            register_secret(key)
        configuration = client.Configuration(
            host=url or f"https://api.{site}", api_key={"apiKeyAuth": api_key, "appKeyAuth": app_key}
        )
        # Its own retries repeat a lost creation blindly, so ours stand in their place.
        configuration.enable_retry = False
        configuration.request_timeout = _TIMEOUT_S
        self._site = site
        self._sleep = sleep
        self._tries = tries
        self._client = client.ApiClient(configuration)
        from datadog_api_client.v1.api.dashboards_api import DashboardsApi  # noqa: PLC0415 - an optional extra
        from datadog_api_client.v1.api.events_api import EventsApi  # noqa: PLC0415
        from datadog_api_client.v1.api.monitors_api import MonitorsApi  # noqa: PLC0415
        from datadog_api_client.v2.api.downtimes_api import DowntimesApi  # noqa: PLC0415

        self._monitors = MonitorsApi(self._client)
        self._dashboards = DashboardsApi(self._client)
        self._downtimes = DowntimesApi(self._client)
        self._events = EventsApi(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def find(self, env: str) -> tuple[Found, ...]:
        """Return the monitors and dashboards that bear our mark, of this environment."""
        return (*self._find_monitors(env), *self._find_dashboards(env))

    def validate(self, kind: Kind, body: dict[str, Any]) -> None:
        """Have Datadog check a monitor. It offers no such thing for dashboards."""
        if kind is Kind.MONITOR:
            self._call(f"check monitor {body['name']}", lambda: self._monitors.validate_monitor(body=body))

    def create(self, kind: Kind, body: dict[str, Any]) -> str:
        """Create an object and return its id. Raises `Unsure` when it may be there or not."""
        what = f"create {kind} {body.get('name') or body.get('title')}"
        if kind is Kind.MONITOR:
            made = self._call(what, lambda: self._monitors.create_monitor(body=body), is_repeatable=False)
        else:
            made = self._call(what, lambda: self._dashboards.create_dashboard(body=body), is_repeatable=False)
        return str(made["id"])

    def update(self, kind: Kind, identifier: str, body: dict[str, Any]) -> None:
        """Replace an object. Raises `Gone`."""
        what = f"update {kind} {identifier}"
        if kind is Kind.MONITOR:
            fields = {name: value for name, value in body.items() if name != "type"}
            self._call(what, lambda: self._monitors.update_monitor(int(identifier), body=fields))
        else:
            self._call(what, lambda: self._dashboards.update_dashboard(identifier, body=body))

    def delete(self, kind: Kind, identifier: str) -> None:
        """Delete an object; one that is gone is no error."""
        what = f"delete {kind} {identifier}"
        try:
            if kind is Kind.MONITOR:
                self._call(what, lambda: self._monitors.delete_monitor(int(identifier)))
            else:
                self._call(what, lambda: self._dashboards.delete_dashboard(identifier))
        except Gone:
            return

    def mute(self, scope: str, *, until: float, message: str) -> str:
        """Silence all monitors of a scope, such as `host:rpc-1`, until a Unix time; return the downtime's id."""
        attributes = {
            "scope": scope,
            "monitor_identifier": {"monitor_tags": ["*"]},
            "schedule": {"end": datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")},
            "message": message,
            "mute_first_recovery_notification": True,
        }
        body = {"data": {"type": "downtime", "attributes": attributes}}
        made = self._call(f"mute {scope}", lambda: self._downtimes.create_downtime(body=body), is_repeatable=False)
        return str(made["data"]["id"])

    def unmute(self, identifier: str) -> None:
        """End a downtime; one that is gone is no error."""
        with suppress(Gone):
            self._call(f"unmute {identifier}", lambda: self._downtimes.cancel_downtime(identifier))

    def post_event(self, title: str, text: str, *, tags: list[str], host: str, kind: str) -> None:
        """Post an event; `kind` is info, success, warning or error."""
        body = {"title": title, "text": text, "tags": tags, "host": host, "alert_type": kind}
        self._call("post an event", lambda: self._events.create_event(body=body), is_repeatable=False)

    def _find_monitors(self, env: str) -> Iterator[Found]:
        for page in count():
            chosen = {"monitor_tags": f"{OWNER},env:{env}", "page": page, "page_size": _PAGE}
            monitors = self._call("list monitors", partial(self._monitors.list_monitors, **chosen))
            for monitor in monitors:
                yield Found(Kind.MONITOR, str(monitor["id"]), monitor)
            if len(monitors) < _PAGE:
                return

    def _find_dashboards(self, env: str) -> Iterator[Found]:
        for start in count(0, _PAGE):
            listed = self._call("list dashboards", partial(self._dashboards.list_dashboards, start=start, count=_PAGE))
            summaries = listed.get("dashboards") or []
            for summary in summaries:
                mark = read_mark(Kind.DASHBOARD, summary)
                if mark and mark.env == env:
                    identifier = str(summary["id"])
                    get = partial(self._dashboards.get_dashboard, identifier)
                    yield Found(Kind.DASHBOARD, identifier, self._call(f"read dashboard {identifier}", get))
            if len(summaries) < _PAGE:
                return

    def _call(self, what: str, request: Callable[[], Any], *, is_repeatable: bool = True) -> Any:
        """Return what a request answers, as plain data; wait where Datadog says so. Raises `ToolError`, `Gone`, `Unsure`."""
        for attempt in range(1, self._tries + 1):
            try:
                with self._translated(what):
                    return _plain(request())
            except _Wait as wait:
                if attempt == self._tries:
                    raise ToolError(
                        f"Datadog would not {what}: {wait.reason}, {self._tries} times",
                        resolution="run the same command again later; what is done already is found",
                    ) from wait
                if not wait.is_harmless and not is_repeatable:
                    raise Unsure(f"Datadog may or may not have done this: {what}", details=wait.reason) from wait
                self._sleep(min(wait.seconds if wait.seconds is not None else 2.0 ** (attempt - 1), _LONGEST_WAIT_S))
        raise AssertionError(what)  # the last try raises

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        from datadog_api_client.exceptions import ApiException, OpenApiException  # noqa: PLC0415 - an optional extra
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            yield
        except ApiException as error:
            raise _translate(what, self._site, error) from error
        except OpenApiException as error:
            raise ToolError(
                f"Datadog's client would not {what}", details=str(error), resolution="correct manifests/monitoring"
            ) from error
        except HTTPError as error:
            raise _Wait(f"{self._site} cannot be reached ({type(error).__name__})", None, is_harmless=False) from error


class _Wait(QtradeError):
    """Try again later. `is_harmless`: the request was certainly not carried out."""

    def __init__(self, reason: str, seconds: float | None, *, is_harmless: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds
        self.is_harmless = is_harmless


def _translate(what: str, site: str, error: Any) -> QtradeError:
    status = int(error.status or 0)
    headers = {name.lower(): value for name, value in dict(error.headers or {}).items()}
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    if status == _TOO_MANY:
        reset = headers.get("x-ratelimit-reset", "")
        seconds = float(reset) if reset.replace(".", "", 1).isdigit() else None
        return _Wait("too many requests (429)", seconds, is_harmless=True)
    if status >= _SERVER_FAULT:
        return _Wait(f"its server failed ({status})", None, is_harmless=False)
    if status == _NOT_FOUND:
        return Gone(f"Datadog does not know it: {what}", details=body[:500])
    if status in (401, 403):
        return ToolError(
            f"{site} refuses the keys ({status}): {what}",
            details=body[:500],
            resolution="check the API key, the application key (scopes monitors_write, dashboards_write) and the site",
        )
    return ToolError(
        f"Datadog would not {what} ({status})", details=body[:1000], resolution="correct manifests/monitoring"
    )


def _plain(value: Any) -> Any:
    """Return the client's models as dictionaries and lists."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def _import_client() -> ModuleType:
    """Return Datadog's client, which takes its time to import. Raises `UsageError`."""
    try:
        return import_module("datadog_api_client")
    except ImportError as error:
        raise UsageError(
            "`qtrade monitors` needs Datadog's client", resolution="install it: pip install 'qtrade[datadog]'"
        ) from error
