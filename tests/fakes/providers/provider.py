"""What all fake providers share: a web server on loopback, statuses that lag behind, and faults that can be put in the way."""

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.providers.machine import Machine

# How long an operation waits to be seen, where nobody looks.
_TOLD_S = 2.0


@dataclass(frozen=True)
class Call:
    """A request as it came."""

    method: str
    path: str
    body: Any
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer. `body` is sent as JSON; a text as it is."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong with the next request that fits; `fired` proves that it did.

    `does` says whether the request is carried out all the same, as when only the answer is lost. Of the ways: `reply`
    answers with it, `drops` closes the connection without an answer, `cut_at` sends only so many bytes of the true answer,
    `stall_s` waits before anything.
    """

    method: str = "POST"
    path: str = ""
    reply: Reply | None = None
    does: bool = False
    drops: bool = False
    cut_at: int | None = None
    stall_s: float = 0.0
    fired: bool = False

    def fits(self, call: Call) -> bool:
        return call.method == self.method and self.path in call.path


@dataclass
class _Operation:
    statuses: tuple[str, ...]
    started: float
    is_done: bool = False
    # Set once somebody was told its last status by a GET: on a starved machine a brief one would never be seen.
    told: threading.Event = field(default_factory=threading.Event)


class FakeProvider(ABC):
    """One server at one provider. Subclasses know the API's shape.

    `transition_s` is how long each status of an operation shows at least; for `stale_s` after an operation was accepted,
    the old status still shows, as at real providers (the provider's own Terraform code waits for a change because of it).
    """

    prefix: ClassVar[str] = ""
    content_type: ClassVar[str] = "application/json"

    def __init__(self, machine: Machine, *, token: str, transition_s: float = 3.0, stale_s: float = 0.0) -> None:
        self.machine = machine
        self.token = token
        self.transition_s = transition_s
        self.stale_s = stale_s
        self.calls: list[Call] = []
        self.exchanges: list[tuple[Call, Reply]] = []
        self.faults: deque[Fault] = deque()
        self.errors: list[BaseException] = []
        self.resting: str | None = None
        self.lock = threading.RLock()
        self._operation: _Operation | None = None
        self._is_read = False
        self._stale: tuple[str, float] = ("", 0.0)
        self._threads: list[threading.Thread] = []
        handler = type("Handler", (_Handler,), {"provider": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True

    @property
    def root(self) -> str:
        """The server's URL without the API's own path."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def url(self) -> str:
        """The API's URL, as a host manifest has it."""
        return self.root + self.prefix

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self.settle()

    def settle(self) -> None:
        """Wait until the machine did what it was told, and raise what went wrong there."""
        for thread in self._threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]

    def inject(self, fault: Fault) -> Fault:
        """Put a fault in the way of the next request that fits."""
        self.faults.append(fault)
        return fault

    def requests(self, method: str = "POST") -> list[tuple[str, Any]]:
        """Return path and body of what was asked by that method."""
        return [(call.path, call.body) for call in self.calls if call.method == method]

    @abstractmethod
    def answer(self, call: Call) -> Reply:
        """Carry out one authorised request."""

    @abstractmethod
    def denied(self) -> Reply:
        """Return what the API says to a wrong token."""

    def is_authorised(self, call: Call) -> bool:
        """Check the token."""
        return call.headers.get("authorization") == f"Bearer {self.token}"

    def begin(self, *statuses: str, work: Callable[[], None], then: str | None = None) -> None:
        """Start an operation: it shows `statuses` one after another, does `work` during the last, and then rests as `then`.

        With `then` None, the machine's power is what shows.
        """
        with self.lock:
            self._stale = (self.status, time.monotonic() + self.stale_s)
            self._operation = operation = _Operation(statuses, time.monotonic())
        thread = threading.Thread(target=self._run, args=(operation, work, then), daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether an operation is under way."""
        return self._operation is not None and not self._operation.is_done

    @property
    def status(self) -> str:
        """The status as the API tells it now."""
        with self.lock:
            stale, until = self._stale
            if time.monotonic() < until:
                return stale
            if self._operation is not None and not self._operation.is_done:
                shown = int((time.monotonic() - self._operation.started - self.stale_s) / max(self.transition_s, 0.001))
                last = len(self._operation.statuses) - 1
                if self._is_read and shown >= last:
                    self._operation.told.set()
                return self._operation.statuses[min(shown, last)]
            return self.resting or self.power_status(is_on=self.machine.is_on)

    @abstractmethod
    def power_status(self, *, is_on: bool) -> str:
        """Return the API's word for a server that does nothing but run or not run."""

    def _run(self, operation: _Operation, work: Callable[[], None], then: str | None) -> None:
        try:
            time.sleep(self.stale_s + self.transition_s * (len(operation.statuses) - 1))
            began = time.monotonic()
            work()
            time.sleep(max(0.0, self.transition_s - (time.monotonic() - began)))
            operation.told.wait(_TOLD_S)
        except BaseException as error:  # noqa: BLE001 - raised again by `settle`
            self.errors.append(error)
        with self.lock:
            self.resting = then
            operation.is_done = True


class _Handler(BaseHTTPRequestHandler):
    provider: FakeProvider
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        call = self._call()
        provider = self.provider
        provider.calls.append(call)
        fault = next((each for each in provider.faults if each.fits(call)), None)
        if fault is None:
            self._send(self._answer(call))
            return
        provider.faults.remove(fault)
        fault.fired = True
        time.sleep(fault.stall_s)
        reply = self._answer(call) if fault.does or not (fault.reply or fault.drops) else None
        if fault.drops:
            self.close_connection = True
            return
        self._send(fault.reply or reply or Reply(500), cut_at=fault.cut_at)

    def _call(self) -> Call:
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            body: Any = dict(parse_qsl(raw.decode()))
        else:
            body = json.loads(raw) if raw else None
        return Call(self.command, parts.path, body, dict(parse_qsl(parts.query)), headers)

    def _answer(self, call: Call) -> Reply:
        with self.provider.lock:
            self.provider._is_read = call.method == "GET"
            allowed = self.provider.is_authorised(call)
            try:
                reply = self.provider.answer(call) if allowed else self.provider.denied()
            except (KeyError, TypeError, ValueError) as error:
                reply = Reply(400, {"message": f"the request has no {error}"})
            self.provider.exchanges.append((call, reply))
            return reply

    def _send(self, reply: Reply, *, cut_at: int | None = None) -> None:
        is_text = isinstance(reply.body, str)
        body = b"" if reply.body is None else reply.body.encode() if is_text else json.dumps(reply.body).encode()
        headers = {"Content-Type": "text/html" if is_text else self.provider.content_type, **reply.headers}
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_at])
        if cut_at is not None:
            self.close_connection = True


def ipxe_then(machine: Machine, url: str, *, wipes: bool) -> Callable[[], None]:
    """Return the work of an iPXE boot; a provider that reinstalls erases the disks first."""

    def work() -> None:
        if wipes:
            machine.wipe()
        machine.boot_ipxe(url)

    return work


def stock_system(machine: Machine, hostname: str, keys: tuple[str, ...]) -> Callable[[], None]:
    """Return the work of a reinstall."""
    return partial(machine.reinstall, hostname=hostname, public_keys=keys)
