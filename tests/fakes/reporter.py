"""A reporter that remembers."""

from collections.abc import Iterator
from contextlib import contextmanager

from qtrade.reporter import Advance


class RecordingReporter:
    """Keeps every line and the name of every step."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.steps.append(name)
        yield

    @contextmanager
    def transfer(self, name: str, total_bytes: int) -> Iterator[Advance]:
        self.steps.append(name)
        yield lambda _: None
