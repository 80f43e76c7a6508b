"""The report of the bench: tables in Markdown between two marks of docs/bench.md, and a plot beside it."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.cases import TITLES, Case, Peer
from tests.bench.plot import Bar, draw_bars
from tests.bench.records import SLOW_S, Records

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
# What qtrade wants to reach: reported, never asserted.
_NOTHING_S, _LAST_S = 0.5, 3.0


def write_report(docs: Path | None, peers: Sequence[Peer], records: Records) -> str:
    """Return the report as text; with a folder `docs`, put it between the marks of bench.md and write bench.svg."""
    text = render(peers, records)
    if docs is not None:
        page = docs / "bench.md"
        before, _, rest = page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        plot = "![seconds by case and tool, logarithmic](bench.svg)"
        write_whole(page, f"{before}{BEGIN}\n\n{plot}\n\n{text}\n{END}{after}")
        write_whole(docs / "bench.svg", draw_bars(bars(peers, records)))
    return text


def render(peers: Sequence[Peer], records: Records) -> str:
    """Return tables of all cases, the targets, the tools, and the machine they ran on."""
    return "\n".join(
        (
            "Seconds of wall clock, and CPU seconds of all processes in brackets:",
            "",
            *_times(peers, records),
            "",
            "Largest process and size of the image, in MiB (of the run with .debs cached, else of the last layer changed):",
            "",
            *_sizes(peers, records),
            "",
            *_targets(records),
            "",
            *(f"- **{peer.name}**: {peer.note}" for peer in peers),
            "",
            _caption(records),
            "",
        )
    )


def bars(peers: Sequence[Peer], records: Records) -> list[Bar]:
    """Return the bars of the plot, grouped by case; what has no time has the reason instead."""
    found = []
    for case in Case:
        for peer in peers:
            stands_for = peer.same_as.get(case, case)
            cell = records.cell(peer.name, stands_for)
            seconds = None if cell is None or cell.failed else cell.wall_s
            found.append(
                Bar(TITLES[case], peer.name, seconds, "" if seconds is not None else _words(peer, case, records))
            )
    return found


def _times(peers: Sequence[Peer], records: Records) -> list[str]:
    rows = [f"| | {' | '.join(peer.name for peer in peers)} |", "|---|" + "---|" * len(peers)]
    rows += [f"| {TITLES[case]} | {' | '.join(_words(peer, case, records) for peer in peers)} |" for case in Case]
    return rows


def _words(peer: Peer, case: Case, records: Records) -> str:
    """Return what stands in a cell: `2.41 (3.02)`, marks for one run and for a case that another stands for, or the reason."""
    stands_for = peer.same_as.get(case, case)
    cell = records.cell(peer.name, stands_for)
    if cell is None:
        return peer.left_out.get(case) or peer.missing() or "not run"
    if cell.failed:
        return cell.failed
    marks = ("" if cell.runs > 1 else " ¹") + ("" if stands_for is case else " ²")
    return f"{cell.wall_s:.2f} ({cell.cpu_s:.2f}){marks}"


def _sizes(peers: Sequence[Peer], records: Records) -> list[str]:
    rows = ["| | largest process | image |", "|---|---|---|"]
    for peer in peers:
        cells = [records.cell(peer.name, case) for case in (Case.DEBS, Case.LAST)]
        cell = next((cell for cell in cells if cell and not cell.failed), None)
        rows.append(
            f"| {peer.name} | {cell.rss_mib:.0f} | {cell.size_mib:.0f} |" if cell else f"| {peer.name} | - | - |"
        )
    return rows


def _targets(records: Records) -> list[str]:
    """Say for each target what it is, what was measured, and whether it is met."""
    lines = ["Targets:", ""]
    for case, most in ((Case.NOTHING, _NOTHING_S), (Case.LAST, _LAST_S)):
        lines.append(f"- {TITLES[case]}, the whole process: {_verdict(_wall(records, 'qtrade', case), most)}")
    most = _wall(records, "packer-chroot", Case.DEBS)
    title = f"{TITLES[Case.DEBS]}, at most the time of packer-chroot"
    lines.append(f"- {title}: {_verdict(_wall(records, 'qtrade', Case.DEBS), most)}")
    return lines


def _wall(records: Records, peer: str, case: Case) -> float | None:
    cell = records.cell(peer, case)
    return None if cell is None or cell.failed else cell.wall_s


def _verdict(found: float | None, most: float | None) -> str:
    if found is None or most is None:
        return "not measured"
    return f"{found:.2f} s, target {most:.2f} s: {'met' if found <= most else 'missed'}"


def _caption(records: Records) -> str:
    machines = records.machines()

    def values(name: str) -> str:
        return ", ".join(sorted({machine[name] for machine in machines if name in machine}))

    left = records.left_loops()
    loops = f" Loop devices were left behind by {', '.join(left)}; the bench detached them." if left else ""
    return (
        f"¹ One run (it took more than {SLOW_S:.0f} s and no target compares it, or the tool was asked for one); all others are medians. "
        "² No run of its own: for this tool the case is the same work as the one that stands for it.\n\n"
        f"Machine: {values('cores')} cores, Linux {values('kernel')}, {values('accelerator')}, Python {values('python')}. "
        f"Tools: {values('tool')}. Project at {values('commit')}.{loops}"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)
