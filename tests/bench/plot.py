"""A bar chart as SVG, written by hand: seconds on a logarithmic scale, since a cached bake and a cold one differ a hundredfold."""

import math
from dataclasses import dataclass
from html import escape
from itertools import groupby

_LABEL, _WIDTH, _ROW, _GAP, _TOP = 150, 560, 16, 26, 30
_COLOURS = {"qtrade": "#1f6f50"}
_OTHER = "#8a94a0"
_LEAST_S = 0.1


@dataclass(frozen=True)
class Bar:
    """One bar: its group, its name, and seconds, or else a reason why there are none."""

    group: str
    name: str
    seconds: float | None
    reason: str = ""


def draw_bars(bars: list[Bar]) -> str:
    """Return the chart as SVG text; bars of a group stand together."""
    longest = max([bar.seconds for bar in bars if bar.seconds is not None], default=1.0)
    top = 10 ** math.ceil(math.log10(max(longest, 1.0)))
    parts, y = [], _TOP
    for group, members in groupby(bars, key=lambda bar: bar.group):
        parts.append(f'<text x="4" y="{y}" font-weight="bold">{escape(group)}</text>')
        y += 6
        for bar in members:
            parts.append(_draw(bar, y, top))
            y += _ROW
        y += _GAP
    total_width = _LABEL + _WIDTH + 90
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{y + 10}" font-family="sans-serif" font-size="11">'
    paper = f'<rect width="{total_width}" height="{y + 10}" fill="#ffffff"/>'
    return "\n".join([frame, paper, *_scale(top, y), *parts, "</svg>", ""])


def length_of(seconds: float, top: float) -> float:
    """Return the length of a bar in pixels: 0 at a tenth of a second, all of the width at `top`."""
    share = math.log10(max(seconds, _LEAST_S) / _LEAST_S) / math.log10(top / _LEAST_S)
    return round(share * _WIDTH, 1)


def _draw(bar: Bar, y: int, top: float) -> str:
    label = f'<text x="{_LABEL - 6}" y="{y + 11}" text-anchor="end">{escape(bar.name)}</text>'
    if bar.seconds is None:
        return label + f'<text x="{_LABEL + 4}" y="{y + 11}" fill="#666666">{escape(bar.reason)}</text>'
    length = length_of(bar.seconds, top)
    colour = _COLOURS.get(bar.name, _OTHER)
    box = f'<rect x="{_LABEL}" y="{y + 2}" width="{max(length, 1)}" height="{_ROW - 4}" fill="{colour}"/>'
    return label + box + f'<text x="{_LABEL + length + 4}" y="{y + 11}">{bar.seconds:.2f} s</text>'


def _scale(top: float, height: int) -> list[str]:
    marks, value = [], _LEAST_S
    while value <= top * 1.001:
        x = _LABEL + length_of(value, top)
        marks.append(f'<line x1="{x}" y1="18" x2="{x}" y2="{height}" stroke="#dddddd"/>')
        marks.append(f'<text x="{x}" y="12" text-anchor="middle" fill="#666666">{value:g} s</text>')
        value *= 10
    return marks
