"""What is under way, redrawn at the foot of a terminal. rich is loaded at first use, since a pipe needs none of it."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task

# Below it a line has room for a name and a time only.
_NARROW_COLUMNS = 70
# Columns of the figures with their gaps: time and share; spinner, time, bytes with rate, and time that is left.
_NARROW_FIGURES, _WIDE_FIGURES = 14, 50


def can_redraw() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class LiveSteps:
    """Steps and transfers that run, side by side too, each on a line of its own. Colours follow NO_COLOR."""

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
    def transfer(self, text: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Show bytes done, rate and ETA."""
        with self._task(text, total_bytes) as advance:
            yield advance

    @contextmanager
    def _task(self, text: str, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
        progress = self._enter()
        task = progress.add_task(text, total=total_bytes)
        try:
            yield lambda done_bytes: progress.update(task, completed=done_bytes)
        finally:
            progress.remove_task(task)
            self._leave()

    def _enter(self) -> "Progress":
        from rich.progress import Progress  # noqa: PLC0415

        with self._lock:
            if self._progress is None:
                columns = _columns(self._console.width)
                self._progress = Progress(*columns, console=self._console, transient=True)
                self._progress.start()
            self._running += 1
            return self._progress

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._progress:
                self._progress.stop()
                self._progress = None


def _columns(width: int) -> "tuple[ProgressColumn, ...]":
    """Return what a line shows: the name gives way to the figures, and a narrow terminal has the share that is done in place of bytes."""
    from rich import progress as parts  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    is_narrow = width < _NARROW_COLUMNS

    class Amount(parts.DownloadColumn):
        """Bytes and rate of a transfer; nothing for a step."""

        def render(self, task: "Task") -> Text:
            if task.total is None:
                return Text()
            if is_narrow:
                return Text(f"{task.percentage:.0f} %")
            rate = f" {task.speed / 1e6:.1f} MB/s" if task.speed else ""
            return super().render(task) + Text(rate)

    room = max(width - (_NARROW_FIGURES if is_narrow else _WIDE_FIGURES), 8)
    name = parts.TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=room)
    )
    figures = tuple(column(table_column=Column(no_wrap=True)) for column in (parts.TimeElapsedColumn, Amount))
    if is_narrow:
        return (name, *figures)
    return (parts.SpinnerColumn(), name, *figures, parts.TimeRemainingColumn())
