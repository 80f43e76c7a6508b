"""A small canvas: boxes with text, labels and arrows, in colours for light and dark. It knows what overlaps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Literal

Kind = Literal["plain", "old", "new", "good", "bad", "secret", "group"]
Point = tuple[float, float]

FONT_PX = 14
SMALL_PX = 12
_LINE_PX = 18
# Of DejaVu Sans, the widest of the usual sans-serif fonts, a character takes 0.6 of the size on average.
_CHARACTER = 0.6
_PAD_PX = 6
_FONT = "system-ui, -apple-system, &quot;Segoe UI&quot;, &quot;DejaVu Sans&quot;, sans-serif"

_LIGHT: dict[Kind, tuple[str, str]] = {
    "plain": ("#f6f8fa", "#57606a"),
    "old": ("#eaeef2", "#57606a"),
    "new": ("#ddf4ff", "#0969da"),
    "good": ("#dafbe1", "#1a7f37"),
    "bad": ("#ffebe9", "#cf222e"),
    "secret": ("#fff8c5", "#9a6700"),
    "group": ("none", "#8c959f"),
}
_DARK: dict[Kind, tuple[str, str]] = {
    "plain": ("#21262d", "#8b949e"),
    "old": ("#30363d", "#8b949e"),
    "new": ("#0c2d4d", "#58a6ff"),
    "good": ("#0f2e1a", "#3fb950"),
    "bad": ("#3d1517", "#f85149"),
    "secret": ("#352a09", "#d29922"),
    "group": ("none", "#6e7681"),
}


@dataclass(frozen=True)
class Rect:
    """A rectangle, and what it is called in a complaint."""

    x: float
    y: float
    width: float
    height: float
    name: str

    def meets(self, other: "Rect") -> bool:
        """Return whether both share more than an edge."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )

    def holds(self, other: "Rect") -> bool:
        """Return whether `other` lies within."""
        return (
            self.x <= other.x
            and self.y <= other.y
            and other.x + other.width <= self.x + self.width
            and other.y + other.height <= self.y + self.height
        )


@dataclass
class Canvas:
    """A picture with a ground of its own, so that it can be read on any page. Sizes are in px."""

    width: int
    height: int
    title: str
    _parts: list[str] = field(default_factory=list)
    _boxes: list[Rect] = field(default_factory=list)
    _labels: list[Rect] = field(default_factory=list)
    _lines: list[tuple[Point, Point]] = field(default_factory=list)
    _narrow: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, *lines: str, kind: Kind = "plain") -> None:
        """Draw a box with lines of text in its middle; the first is bold where there are several. A group's text stands on top."""
        name = " ".join(lines)
        self._boxes.append(Rect(x, y, width, height, name))
        dash = ' stroke-dasharray="5 4"' if kind == "group" else ""
        self._parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"{dash}/>'
        )
        first = y + 20 if kind == "group" else y + height / 2 - (len(lines) - 1) * _LINE_PX / 2 + 5
        for number, line in enumerate(lines):
            size = FONT_PX if number == 0 else SMALL_PX
            is_bold = number == 0 and (len(lines) > 1 or kind == "group")
            if text_px(line, size) * (1.06 if is_bold else 1) > width - 2 * _PAD_PX:
                self._narrow.append(line)
            place = f'x="{x + width / 2:g}" y="{first + number * _LINE_PX:g}" font-size="{size}" text-anchor="middle"'
            weight = ' font-weight="600"' if is_bold else ""
            self._parts.append(f"<text {place}{weight}>{escape(line)}</text>")
        if len(lines) * _LINE_PX > height:
            self._narrow.append(name)

    def label(self, x: float, y: float, text: str, *, anchor: Literal["start", "middle", "end"] = "start") -> None:
        """Write a small line of text; `y` is its base line."""
        width = text_px(text, SMALL_PX)
        left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
        self._labels.append(Rect(left, y - SMALL_PX + 2, width, SMALL_PX, text))
        self._parts.append(
            f'<text class="label" x="{x:g}" y="{y:g}" font-size="{SMALL_PX}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def arrow(self, *points: Point, kind: Literal["plain", "bad"] = "plain") -> None:
        """Draw a line through points, with a head at the last."""
        self._lines += list(pairwise(points))
        path = " ".join(f"{'M' if number == 0 else 'L'}{x:g} {y:g}" for number, (x, y) in enumerate(points))
        self._parts.append(f'<path class="line {kind}-line" d="{path}" marker-end="url(#head-{kind})"/>')

    def problems(self) -> list[str]:
        """Return what overlaps, sticks out or does not fit, as sentences."""
        whole = Rect(0, 0, self.width, self.height, "the picture")
        drawn = [*self._boxes, *self._labels]
        return [
            *(f"{text!r} is too long for its box" for text in self._narrow),
            *(f"{one.name!r} sticks out" for one in drawn if not whole.holds(one)),
            *self._overlaps(),
            *self._crossings(),
        ]

    def _overlaps(self) -> Iterator[str]:
        drawn = [*self._boxes, *self._labels]
        for number, one in enumerate(drawn):
            for other in drawn[number + 1 :]:
                if one.meets(other) and not (one in self._boxes and one.holds(other)):
                    yield f"{one.name!r} overlaps {other.name!r}"

    def _crossings(self) -> Iterator[str]:
        for start, end in self._lines:
            stroke = Rect(
                min(start[0], end[0]) - 0.5,
                min(start[1], end[1]) - 0.5,
                abs(start[0] - end[0]) + 1,
                abs(start[1] - end[1]) + 1,
                "a line",
            )
            for one in (*self._boxes, *self._labels):
                inner = Rect(one.x + 2, one.y + 2, one.width - 4, one.height - 4, one.name)
                if inner.meets(stroke) and not inner.holds(stroke):
                    yield f"a line from {start} to {end} crosses {one.name!r}"

    def render(self) -> str:
        """Return the picture."""
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_FONT}">',
                f"<title>{escape(self.title)}</title>",
                "<!-- Made by `make schemas`. Change docs/site/pictures. -->",
                f"<style>{''.join(_style())}</style>",
                f"<defs>{_head('plain')}{_head('bad')}</defs>",
                f'<rect class="ground" width="{self.width}" height="{self.height}" rx="8"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def _head(kind: str) -> str:
    """Return the head of an arrow."""
    marker = f'id="head-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"'
    return f'<marker {marker}><path class="{kind}-head" d="M0 0L10 5L0 10z"/></marker>'


def text_px(text: str, size: int) -> float:
    """Return how wide a line of text may become."""
    return len(text) * size * _CHARACTER


def column(canvas: Canvas, x: float, y: float, size: tuple[float, float], texts: Sequence[Sequence[str]]) -> None:
    """Draw boxes of one size below each other, with arrows between them."""
    width, height = size
    for number, lines in enumerate(texts):
        top = y + number * (height + 24)
        canvas.box(x, top, width, height, *lines)
        if number:
            canvas.arrow((x + width / 2, top - 24), (x + width / 2, top))


def _style() -> Iterator[str]:
    yield from _colours(_LIGHT, ground="#ffffff", text="#1f2328", label="#57606a", line="#57606a")
    yield "@media (prefers-color-scheme: dark){"
    yield from _colours(_DARK, ground="#0d1117", text="#e6edf3", label="#9da7b3", line="#8b949e")
    yield "}"


def _colours(kinds: dict[Kind, tuple[str, str]], *, ground: str, text: str, label: str, line: str) -> Iterator[str]:
    yield f".ground{{fill:{ground}}}text{{fill:{text}}}.label{{fill:{label}}}"
    yield f".line{{fill:none;stroke-width:1.5}}.plain-line{{stroke:{line}}}.plain-head{{fill:{line}}}"
    bad = kinds["bad"][1]
    yield f".bad-line{{stroke:{bad}}}.bad-head{{fill:{bad}}}"
    for kind, (fill, stroke) in kinds.items():
        yield f".{kind}{{fill:{fill};stroke:{stroke}}}"
