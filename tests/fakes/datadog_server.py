"""A server on the loopback with the shapes of Datadog's monitors, dashboards, events (v1) and downtimes (v2); it can misbehave."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.loopback import QuietHandler, serve_on_loopback

API_KEY, APP_KEY = "a1" * 16, "b2" * 20
WHO = {"email": "somebody@example.test", "handle": "somebody@example.test", "name": None}
# What the API adds to options that the caller left out.
OPTIONS = {"notify_audit": False, "silenced": {}, "new_host_delay": 300, "escalation_message": "", "locked": False}


@dataclass
class Fault:
    """Answers `times` requests whose "METHOD path" matches, after `skips`; `does_it` carries the request out before it fails."""

    pattern: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    does_it: bool = False
    skips: int = 0


@dataclass
class DatadogServer:
    """What is served at `url`, and every request as "METHOD path"."""

    url: str = ""
    monitors: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    count: int = 1000
    downtimes: dict[str, dict[str, Any]] = field(default_factory=dict)
    canceled: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def changes(self) -> list[str]:
        """Return the requests that would change something."""
        return [one for one in self.requests if not one.startswith("GET") and "/validate" not in one]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.requests.append(f"{handler.command} {address.path}")
        fault = self._take_fault(self.requests[-1])
        status, answer, headers = 403, {"errors": ["Forbidden"]}, {}
        keys = (handler.headers.get("DD-API-KEY"), handler.headers.get("DD-APPLICATION-KEY"))
        # Events are posted with the API key alone.
        if (
            keys[0] == API_KEY
            and (keys[1] == APP_KEY or address.path == "/api/v1/events")
            and not (fault and not fault.does_it)
        ):
            status, answer = self._serve(handler.command, address.path, parse_qs(address.query), body)
        if fault:
            status, answer, headers = fault.status, {"errors": [f"fault {fault.status}"]}, fault.headers
        content = b"" if answer is None else json.dumps(answer).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def _take_fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if not fault.times or not re.fullmatch(fault.pattern, request):
                continue
            if fault.skips:
                fault.skips -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def _serve(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        kind, _, rest = path.removeprefix("/api/v1/").removeprefix("/api/v2/").partition("/")
        identifier = rest.strip("/")
        if kind == "downtime":
            return self._downtime(method, identifier, body)
        if kind == "events":
            self.events.append(body)
            return 202, {"event": {"id": len(self.events), **body}, "status": "ok"}
        if kind == "monitor":
            return self._monitor(method, identifier, query, body)
        return self._dashboard(method, identifier, query, body)

    def _downtime(self, method: str, identifier: str, body: Any) -> tuple[int, Any]:
        if method == "POST":
            self.count += 1
            made = f"00000000-0000-1234-0000-{self.count:012}"
            self.downtimes[made] = body["data"]["attributes"]
            return 200, {"data": {"id": made, "type": "downtime", "attributes": {"status": "active"}}}
        if identifier not in self.downtimes or identifier in self.canceled:
            return 404, {"errors": ["Downtime not found"]}
        self.canceled.append(identifier)
        return 204, None

    def _monitor(self, method: str, identifier: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if identifier == "validate" or (method == "POST" and not identifier):
            fault = find_fault(body)
            if fault:
                return 400, {"errors": [fault]}
            return (200, {}) if identifier else (200, self.add_monitor(body))
        if method == "GET":
            wanted = set(query.get("monitor_tags", [""])[0].split(",")) - {""}
            page, size = int(query["page"][0]), int(query["page_size"][0])
            fitting = [one for one in self.monitors.values() if wanted <= set(one["tags"])]
            return 200, fitting[page * size : (page + 1) * size]
        if identifier not in self.monitors:
            return 404, {"errors": ["Monitor not found"]}
        if method == "DELETE":
            del self.monitors[identifier]
            return 200, {"deleted_monitor_id": int(identifier)}
        there = self.monitors[identifier]
        self.monitors[identifier] = {**there, **body, "options": {**OPTIONS, **body["options"]}}
        return 200, self.monitors[identifier]

    def _dashboard(self, method: str, identifier: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if method == "GET" and not identifier:
            start, count = int(query["start"][0]), int(query["count"][0])
            listed = list(self.dashboards.values())[start : start + count]
            names = ("id", "title", "description", "layout_type", "url", "author_handle", "is_read_only")
            return 200, {"dashboards": [{name: one[name] for name in names} for one in listed]}
        if method == "POST":
            return 200, self.add_dashboard(body)
        if identifier not in self.dashboards:
            return 404, {"errors": [f"Dashboard with ID {identifier} not found"]}
        if method == "DELETE":
            del self.dashboards[identifier]
            return 200, {"deleted_dashboard_id": identifier}
        if method == "PUT":
            self.dashboards[identifier] = {**self.dashboards[identifier], **with_widget_ids(body)}
        return 200, self.dashboards[identifier]

    def add_monitor(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a monitor as the API would answer it."""
        self.count += 1
        added = {
            "created": "2026-11-23T20:00:00.000000+00:00",
            "creator": WHO,
            "multi": True,
            "overall_state": "No Data",
        }
        monitor = {**body, **added, "id": self.count, "options": {**OPTIONS, **body["options"]}}
        self.monitors[str(self.count)] = monitor
        return monitor

    def add_dashboard(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a dashboard as the API would answer it."""
        self.count += 1
        identifier = f"abc-def-{self.count}"
        added = {
            "id": identifier,
            "url": f"/dashboard/{identifier}",
            "author_handle": WHO["handle"],
            "is_read_only": False,
        }
        self.dashboards[identifier] = {**with_widget_ids(body), **added, "notify_list": None}
        return self.dashboards[identifier]


def with_widget_ids(body: dict[str, Any]) -> dict[str, Any]:
    """Number the widgets, as the API does."""
    return {**body, "widgets": [{**widget, "id": 7000 + number} for number, widget in enumerate(body["widgets"])]}


def find_fault(body: dict[str, Any]) -> str:
    """Return what the API says of a monitor's query, empty for nothing."""
    number = re.search(r"([<>]=?) (-?[0-9.e+]+)$", body["query"])
    if not number:
        return "The value provided for parameter 'query' is invalid"
    if float(number[2]) != body["options"]["thresholds"]["critical"]:
        return f"Alert threshold {body['options']['thresholds']} does not match that used in the query ({number[2]})."
    return ""


@contextmanager
def serve_datadog() -> Iterator[DatadogServer]:
    """Serve until the block ends."""
    served = DatadogServer()

    class Handler(QuietHandler):
        def handle_any(self) -> None:
            served.answer(self)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    with serve_on_loopback(Handler) as url:
        served.url = url
        yield served
