"""Progress for people on stderr, data for programs on stdout."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from qtrade.errors import QtradeError
from qtrade.live import LiveSteps, can_redraw
from qtrade.log import log_format, write_line
from qtrade.redaction import redact

Advance = Callable[[int], None]
SCHEMA_VERSION = 1
_PLAIN_EVERY_S = 10.0


class Reporter(Protocol):
    """What steps may tell while they work."""

    def say(self, text: str) -> None:
        """Tell people one line."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Show that a step runs, and how long it took."""
        ...

    def transfer(self, name: str, total_bytes: int) -> AbstractContextManager[Advance]:
        """Show bytes that move; the function that the `with` gives takes the bytes that are done so far."""
        ...


class Timings:
    """How long each step took last time, so that the next run can say how long it will take."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        if path and path.is_file():
            try:
                self._seconds = json.loads(path.read_text())
            except ValueError:
                self._seconds = {}

    def expected_s(self, name: str) -> float | None:
        """Return the seconds that `name` took last time, or None."""
        return self._seconds.get(name)

    def record(self, name: str, seconds: float) -> None:
        """Remember that `name` took `seconds`."""
        self._seconds[name] = round(seconds, 2)
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(self._seconds, sort_keys=True))
            fresh.replace(self._path)


class ConsoleReporter:
    """Live lines on a terminal, plain lines in a pipe, JSON lines where the log is for machines. Everything goes to stderr.

    Steps may run side by side, in threads.
    """

    def __init__(self, *, timings: Timings | None = None, quiet: bool = False) -> None:
        self._quiet = quiet
        self._timings = timings or Timings(None)
        self._lock = threading.Lock()
        self._as_json = log_format() == "json"
        self._live = LiveSteps() if not quiet and not self._as_json and can_redraw() else None

    def say(self, text: str) -> None:
        """Print one redacted line."""
        if self._as_json:
            is_warning = text.startswith("warning: ")
            self._log(level="warning" if is_warning else "info", event="said", text=text.removeprefix("warning: "))
        else:
            self._print(text)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the step while it runs (with an ETA from earlier runs) and its seconds when it ends well."""
        expected_s = self._timings.expected_s(name)
        eta = f" (about {expected_s:.0f} s)" if expected_s and expected_s >= 2 else ""
        start = time.monotonic()
        self._log(event="began", step=name, expected_s=expected_s)
        try:
            if self._live:
                with self._live.step(f"{name}{eta}"):
                    yield
            else:
                self._print(f"… {name}{eta}")
                yield
        except BaseException:
            self._log(level="error", event="failed", step=name, seconds=_rounded(time.monotonic() - start))
            raise
        seconds = time.monotonic() - start
        with self._lock:
            self._timings.record(name, seconds)
        self._log(event="ended", step=name, seconds=_rounded(seconds))
        self._print(f"✓ {name} {seconds:.1f} s")

    @contextmanager
    def transfer(self, name: str, total_bytes: int) -> Iterator[Advance]:
        """Show a bar with rate and ETA on a terminal, a line now and then in a pipe."""
        self._log(event="began", step=name, total_bytes=total_bytes)
        if self._live:
            with self._live.transfer(name, total_bytes) as advance:
                yield advance
        else:
            self._print(f"… {name}: {total_bytes / 1e6:.1f} MB")
            yield _Pace(name, total_bytes, self._tell_pace).advance

    def _tell_pace(self, pace: "_Pace", done_bytes: int, rate: float, left_s: float) -> None:
        figures = {"done_bytes": done_bytes, "total_bytes": pace.total_bytes, "bytes_per_s": int(rate)}
        self._log(event="moved", step=pace.name, eta_s=_rounded(left_s), **figures)
        done = f"{done_bytes / 1e6:.1f} of {pace.total_bytes / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
        self._print(f"… {pace.name}: {done}, {left_s:.0f} s left")

    def _print(self, text: str) -> None:
        if self._quiet or self._as_json:
            return
        with self._lock:
            if self._live:
                self._live.print(redact(text))
            else:
                sys.stderr.write(redact(text) + "\n")

    def _log(self, **fields: Any) -> None:
        if self._as_json and not self._quiet:
            with self._lock:
                write_line(fields.pop("level", "info"), **fields)


class _Pace:
    """Says now and then how far a transfer is, at what rate, and how long it will take, where nothing can be redrawn."""

    def __init__(self, name: str, total_bytes: int, tell: Callable[["_Pace", int, float, float], None]) -> None:
        self.name = name
        self.total_bytes = total_bytes
        self._tell = tell
        self._start = self._told = time.monotonic()

    def advance(self, done_bytes: int) -> None:
        """Tell it, if the last time is a while ago."""
        now = time.monotonic()
        if now - self._told < _PLAIN_EVERY_S or not done_bytes:
            return
        self._told = now
        rate = done_bytes / (now - self._start)
        self._tell(self, done_bytes, rate, max(self.total_bytes - done_bytes, 0) / rate)


def tell(text: str) -> None:
    """Write a remark of a command that shows no progress to stderr."""
    if log_format() == "json":
        write_line("warning" if text.startswith("warning: ") else "info", event="said", text=text)
    else:
        sys.stderr.write(redact(text) + "\n")


def write_error(error: QtradeError, *, host: str | None = None) -> None:
    """Write an error to stderr: for people, or as one JSON object where the log is for machines. `host`: of one of several."""
    if log_format() == "json":
        fields = {"brief": error.brief, "details": error.details, "resolution": error.resolution or error.usual_cure}
        write_line("error", event="error", host=host, error=type(error).__name__, exit_code=error.exit_code, **fields)
    else:
        sys.stderr.write(redact(f"{host}: {error.render()}" if host else error.render()) + "\n")


def print_json(document: Any) -> None:
    """Write a JSON document whose form is somebody else's: an image, an inventory for Ansible, a schema."""
    sys.stdout.write(redact(json.dumps(document, indent=2, sort_keys=True)) + "\n")


def print_document(name: str, fields: Mapping[str, Any]) -> None:
    """Write one of our own JSON documents to stdout: its fields, its name and `schema_version`; `qtrade schema NAME` describes it."""
    print_json({"schema_version": SCHEMA_VERSION, "document": name, **fields})


def _rounded(seconds: float) -> float:
    return round(seconds, 2)
