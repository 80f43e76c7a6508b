"""Where the time of a flash goes, from its journal: a table and a picture."""

from html import escape
from pathlib import Path

from flash.journal import Journal

_TEXT = """
## A lab host from power-on to healthy

One flash through the door {door}, from its journal: {total:.0f} s in all, of them {fetch} s for the blobs. It is a virtual machine without
KVM, so boots are slow and the firmware is quick; a real board takes minutes for its self-test.

| state | begins after, s | takes, s | share |
|---|---|---|---|
{rows}

![states over time](bench-flash.svg)
"""
_LABEL, _WIDTH, _ROW = 130, 620, 22


def read_spans(path: Path) -> list[tuple[str, float, float]]:
    """Return state, start and seconds of each state of a flash, counted from its begin."""
    entries = Journal(path).entries
    begin = entries[0].at - float(entries[0].evidence.get("seconds", 0))
    return [
        (entry.state, entry.at - float(entry.evidence["seconds"]) - begin, float(entry.evidence["seconds"]))
        for entry in entries
        if "seconds" in entry.evidence
    ]


def timeline(path: Path) -> tuple[str, str]:
    """Return a section of Markdown and the SVG that it shows."""
    spans, journal = read_spans(path), Journal(path)
    total = spans[-1][1] + spans[-1][2]
    fetch = journal.evidence("transfer") or {}
    rows = [f"| {state} | {start:.1f} | {seconds:.1f} | {seconds / total:.0%} |" for state, start, seconds in spans]
    text = _TEXT.format(
        door=journal.evidence("door"), total=total, fetch=fetch.get("fetch_seconds", "?"), rows="\n".join(rows)
    )
    return text, draw(spans, total)


def draw(spans: list[tuple[str, float, float]], total: float) -> str:
    """Return the SVG: one bar per state on one scale of seconds."""
    height = _ROW * len(spans) + 40
    parts = []
    for number, (state, start, seconds) in enumerate(spans):
        y, x = 10 + number * _ROW, _LABEL + start / total * _WIDTH
        width = max(seconds / total * _WIDTH, 1.5)
        parts.append(f'<text x="4" y="{y + 13}">{escape(state)}</text>')
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 6}" fill="#1f6f50"/>')
        parts.append(f'<text x="{x + width + 4:.1f}" y="{y + 13}">{seconds:.1f} s</text>')
    size = f'width="{_LABEL + _WIDTH + 90}" height="{height}"'
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    paper = f'<rect {size} fill="#ffffff"/>'
    return "\n".join([frame, paper, *parts, "</svg>", ""])
