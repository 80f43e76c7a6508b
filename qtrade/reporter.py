"""Progress for people on stderr, data for programs on stdout."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from qtrade.redaction import redact

Advance = Callable[[int], None]


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
    """Live lines on a terminal, plain lines in a pipe. Everything goes to stderr."""

    def __init__(self, *, timings: Timings | None = None, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False)
        self._timings = timings or Timings(None)

    def say(self, text: str) -> None:
        """Print one redacted line."""
        self._console.print(redact(text), markup=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the step when it starts (with an ETA from earlier runs) and its seconds when it ends well."""
        expected_s = self._timings.expected_s(name)
        eta = f" (about {expected_s:.0f} s)" if expected_s and expected_s >= 2 else ""
        start = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(f"{name}{eta}"):
                yield
        else:
            self.say(f"… {name}{eta}")
            yield
        seconds = time.monotonic() - start
        self._timings.record(name, seconds)
        self.say(f"✓ {name} {seconds:.1f} s")

    @contextmanager
    def transfer(self, name: str, total_bytes: int) -> Iterator[Advance]:
        """Show a bar with rate and ETA on a terminal, the end only in a pipe."""
        if not self._console.is_terminal:
            self.say(f"… {name}: {total_bytes / 1e6:.1f} MB")
            yield lambda _: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True) as progress:
            task = progress.add_task(name, total=total_bytes)
            yield lambda done_bytes: progress.update(task, completed=done_bytes)


def print_json(document: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(redact(json.dumps(document, indent=2, sort_keys=True)) + "\n")
