"""Measurements and comparisons for people."""

from flash.bench.compare import Change, Comparison, Row
from qtrade.trust.fleet_facts import Bench

_MARKS = {Change.BETTER: "+", Change.SAME: "=", Change.WORSE: "-", Change.UNKNOWN: "?"}


def render_record(record: Bench) -> str:
    """Return a record as lines: verdict, figures, what was not measured."""
    verdict = ("passed" if record.passed else "FAILED") if record.kind == "load" else "measured"
    lines = [f"{record.host}: {verdict}, {record.recipe} {record.version} on {record.hardware_class}"]
    lines += [f"  {name:34} {value:g}" for name, value in sorted(record.metrics.items())]
    lines += [f"  {name:34} not measured: {why}" for name, why in sorted(record.missing.items())]
    lines += [f"  {'remark' if record.passed else 'failed'}: {reason}" for reason in record.reasons]
    return "\n".join(lines)


def render_comparison(found: Comparison) -> str:
    """Return a comparison as a table per hardware class."""
    lines = [f"{found.recipe} {found.before} -> {found.after}"]
    for name in dict.fromkeys(row.hardware_class for row in found.rows):
        lines.append(name)
        lines += [_render(row) for row in found.rows if row.hardware_class == name]
    worse = len(found.worse)
    lines.append(f"{worse} worse" if worse else "nothing is worse by more than is tolerated")
    return "\n".join(lines)


def _render(row: Row) -> str:
    start = f"  {_MARKS[row.change]} {row.metric:34}"
    if row.before is None or row.after is None or row.worse_by is None:
        return f"{start} {row.why}"
    percent = f"{abs(row.worse_by):.1%} {'worse' if row.worse_by > 0 else 'better'}" if row.worse_by else "the same"
    counts = f"{row.records[0]} and {row.records[1]} record{'s' if row.records[1] > 1 else ''}"
    return f"{start} {row.before:g} -> {row.after:g}  {percent} ({counts})"
