"""Where the time of a flash goes, from its journal: its states, and a picture of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from flash.journal import Journal
from flash.states import State

_LABEL, _WIDTH, _ROW = 130, 620, 22


@dataclass(frozen=True)
class Span:
    """A state: when it began, in seconds after the begin of the flash, and how long it took."""

    state: State
    start_s: float
    seconds: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.seconds


def read_spans(journal: Journal) -> list[Span]:
    """Return the states of a flash in their order; one that was entered twice stands as it ended."""
    entries = [entry for entry in journal.entries if "seconds" in entry.evidence]
    begin = entries[0].at - float(entries[0].evidence["seconds"])
    spans = {}
    for entry in entries:
        seconds = float(entry.evidence["seconds"])
        spans[entry.state] = Span(entry.state, max(entry.at - seconds - begin, 0.0), seconds)
    return sorted(spans.values(), key=lambda span: span.start_s)


def between(spans: Sequence[Span], first: State, last: State) -> list[Span]:
    """Return the states from the begin of `first` to the end of `last`, counted from there. Raises `ValueError` if one is missing."""
    states = [span.state for span in spans]
    kept = spans[states.index(first) : states.index(last) + 1]
    return [Span(span.state, span.start_s - kept[0].start_s, span.seconds) for span in kept]


def total_s(spans: Sequence[Span]) -> float:
    """Return how long they took together, with what lies between them."""
    return max(span.end_s for span in spans)


def table(spans: Sequence[Span]) -> str:
    """Return a table of Markdown with the share of each state."""
    total = total_s(spans)
    rows = [
        f"| {span.state} | {span.start_s:.1f} | {span.seconds:.1f} | {span.seconds / total:.0%} |" for span in spans
    ]
    return "\n".join(["| state | begins after, s | takes, s | share |", "|---|---|---|---|", *rows])


def draw(spans: Sequence[Span]) -> str:
    """Return the SVG: one bar per state on one scale of seconds."""
    total, parts = total_s(spans), []
    for number, span in enumerate(spans):
        y, x = 10 + number * _ROW, _LABEL + span.start_s / total * _WIDTH
        width = max(span.seconds / total * _WIDTH, 1.5)
        parts.append(f'<text x="4" y="{y + 13}">{escape(span.state)}</text>')
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 6}" fill="#1f6f50"/>')
        parts.append(f'<text x="{x + width + 4:.1f}" y="{y + 13}">{span.seconds:.1f} s</text>')
    size = f'width="{_LABEL + _WIDTH + 90}" height="{_ROW * len(spans) + 20}"'
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    paper = f'<rect {size} fill="#ffffff"/>'
    return "\n".join([frame, paper, *parts, "</svg>", ""])
