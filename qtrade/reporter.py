"""Progress for people on stderr, data for programs on stdout."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from qtrade.redaction import redact

if TYPE_CHECKING:
    from rich.progress import Progress, Task

Advance = Callable[[int], None]
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
    """Live lines on a terminal, plain lines in a pipe. Everything goes to stderr. Steps may run side by side, in threads."""

    def __init__(self, *, timings: Timings | None = None, quiet: bool = False) -> None:
        self._quiet = quiet
        self._timings = timings or Timings(None)
        self._lock = threading.Lock()
        self._live = None if quiet or not sys.stderr.isatty() else _LiveSteps()

    def say(self, text: str) -> None:
        """Print one redacted line."""
        if self._quiet:
            return
        with self._lock:
            if self._live:
                self._live.print(redact(text))
            else:
                sys.stderr.write(redact(text) + "\n")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the step while it runs (with an ETA from earlier runs) and its seconds when it ends well."""
        expected_s = self._timings.expected_s(name)
        eta = f" (about {expected_s:.0f} s)" if expected_s and expected_s >= 2 else ""
        start = time.monotonic()
        if self._live:
            with self._live.step(f"{name}{eta}"):
                yield
        else:
            self.say(f"… {name}{eta}")
            yield
        seconds = time.monotonic() - start
        with self._lock:
            self._timings.record(name, seconds)
        self.say(f"✓ {name} {seconds:.1f} s")

    @contextmanager
    def transfer(self, name: str, total_bytes: int) -> Iterator[Advance]:
        """Show a bar with rate and ETA on a terminal, a line now and then in a pipe."""
        if self._live:
            with self._live.transfer(name, total_bytes) as advance:
                yield advance
        else:
            self.say(f"… {name}: {total_bytes / 1e6:.1f} MB")
            yield _PlainProgress(name, total_bytes, self.say).advance


class _PlainProgress:
    """Lines for a transfer that takes long, where nothing can be redrawn."""

    def __init__(self, name: str, total_bytes: int, say: Callable[[str], None]) -> None:
        self._name = name
        self._total = total_bytes
        self._say = say
        self._start = self._told = time.monotonic()

    def advance(self, done_bytes: int) -> None:
        """Say how far it is, at what rate, and how long it will take, if the last line is a while ago."""
        now = time.monotonic()
        if now - self._told < _PLAIN_EVERY_S or not done_bytes:
            return
        self._told = now
        rate = done_bytes / (now - self._start)
        left = max(self._total - done_bytes, 0) / rate
        self._say(
            f"… {self._name}: {done_bytes / 1e6:.1f} of {self._total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {left:.0f} s left"
        )


class _LiveSteps:
    """What is under way, redrawn at the foot of a terminal. rich is loaded here, since a pipe needs none of it."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415

        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._running = 0

    def print(self, text: str) -> None:
        """Print a line above what is under way."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a step with the seconds since its start."""
        with self._task(text, None):
            yield

    @contextmanager
    def transfer(self, text: str, total_bytes: int) -> Iterator[Advance]:
        """Show bytes done, rate and ETA."""
        with self._task(text, total_bytes) as advance:
            yield advance

    @contextmanager
    def _task(self, text: str, total_bytes: int | None) -> Iterator[Advance]:
        progress = self._enter()
        task = progress.add_task(text, total=total_bytes)
        try:
            yield lambda done_bytes: progress.update(task, completed=done_bytes)
        finally:
            progress.remove_task(task)
            self._leave()

    def _enter(self) -> "Progress":
        from rich import progress as parts  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        class Amount(parts.DownloadColumn):
            """Bytes and rate of a transfer; nothing for a step."""

            def render(self, task: "Task") -> Text:
                if task.total is None:
                    return Text()
                rate = f" {task.speed / 1e6:.1f} MB/s" if task.speed else ""
                return super().render(task) + Text(rate)

        with self._lock:
            if self._progress is None:
                columns = (
                    parts.SpinnerColumn(),
                    parts.TextColumn("{task.description}", markup=False),
                    parts.TimeElapsedColumn(),
                )
                self._progress = parts.Progress(
                    *columns, Amount(), parts.TimeRemainingColumn(), console=self._console, transient=True
                )
                self._progress.start()
            self._running += 1
            return self._progress

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._progress:
                self._progress.stop()
                self._progress = None


def print_json(document: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(redact(json.dumps(document, indent=2, sort_keys=True)) + "\n")
