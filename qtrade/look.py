"""How plans and tables look: what is done, where, why, and how long it takes. Aligned where the line is wide enough, stacked where not."""

import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

# Nothing useful fits beside its indentation below it.
_LEAST_COLUMNS = 20


@dataclass(frozen=True)
class Row:
    """One thing that a plan does. `takes_s` is what it took the last time, None where nobody knows."""

    what: str
    where: str
    why: str
    takes_s: float | None = None


def width_of(stream: TextIO | None = None) -> int | None:
    """Return the columns of a terminal, None for a pipe, where every row is one line however long. stdout where no stream is given."""
    stream = stream or sys.stdout
    return max(shutil.get_terminal_size().columns, _LEAST_COLUMNS) if stream.isatty() else None


def say_seconds(seconds: float) -> str:
    """Return a duration for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s" if round(seconds, 1) % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def say_time(at: float) -> str:
    """Return seconds since the epoch as people read them."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def write_time(at: float) -> str:
    """Return seconds since the epoch as documents have them (ISO 8601)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def about(seconds: float | None) -> str:
    """Return an estimate for people, empty where there is none."""
    return f"about {say_seconds(seconds)}" if seconds else ""


def render_plan(
    title: str, rows: Sequence[Row], *, facts: Iterable[tuple[str, str]] = (), width: int | None = None
) -> str:
    """Return a plan: the title, facts that hold for all of it, and its rows."""
    cells = [(row.what, row.where, row.why, about(row.takes_s)) for row in rows]
    return "\n".join([*_fold(title, width, "", "  "), *_facts(list(facts), width), *_align(cells, width, "  ")])


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> str:
    """Return a table with a line of heads or, where the line is too narrow for it, a block a row with each cell under its head."""
    table = _align([head, *rows], None, "")
    if width is None or max(map(len, table)) <= width:
        return "\n".join(table)
    blocks = []
    for row in rows:
        first, *others = row
        blocks += _fold(first, width, "", "  ")
        for name, cell in zip(head[1:], others, strict=True):
            blocks += _fold(f"{name}: {cell}", width, "  ", "    ")
    return "\n".join(blocks)


def _facts(facts: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    wide = max((len(name) for name, _ in facts), default=0) + 2
    lines = [f"  {f'{name}:':{wide}}{text}" for name, text in facts]
    if width is None or all(len(line) <= width for line in lines):
        return lines
    return [line for name, text in facts for line in _fold(f"{name}: {text}", width, "  ", "    ")]


def _align(cells: Sequence[Sequence[str]], width: int | None, indent: str) -> list[str]:
    columns = list(zip(*cells, strict=True))
    used = [column for column in columns if any(column)]
    wide = [max(map(len, column)) for column in used]
    lines = [
        (indent + "  ".join(cell.ljust(size) for cell, size in zip(row, wide, strict=True))).rstrip()
        for row in zip(*used, strict=True)
    ]
    if width is None or all(len(line) <= width for line in lines):
        return lines
    return [line for row in cells for line in _stack(row, width, indent)]


def _stack(row: Sequence[str], width: int, indent: str) -> list[str]:
    """Return one row as lines: what and where first, the rest below."""
    lines = _fold(" ".join(filter(None, row[:2])), width, indent, f"{indent}  ")
    for cell in filter(None, row[2:]):
        lines += _fold(cell, width, f"{indent}    ", f"{indent}    ")
    return lines


def _fold(text: str, width: int | None, first: str, others: str) -> list[str]:
    """Return the text in lines no longer than `width`; words are cut only where one alone is longer."""
    if width is None or len(first + text) <= width:
        return [first + text]
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
