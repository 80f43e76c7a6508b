"""The report of `tests.bench.flash`: what stands between the marks of docs/bench-flash.md, and the picture beside it."""

import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from qtrade.machine.machine import find_qemu
from qtrade.settings import load_settings
from qtrade.toolsroot import has_tools, open_tools
from tests.bench.flash_host import InPlace, Reimage
from tests.bench.flash_journal import draw, table, total_s
from tests.bench.report import BEGIN, END, write_whole

# What bounds any way to bring bytes to a disk, and how near to the slowest of them the agent wants to come: reported, never asserted.
LIMITS, SHARE = ("link", "decode", "disk"), 0.9
AGENT = "agent"


@dataclass
class Case:
    """A way to bring the blobs to the disk, or one part of it: a shell command, and its runs (wall, CPU in s)."""

    name: str
    command: str
    checks: str
    runs: list[tuple[float, float]] = field(default_factory=list)

    def medians(self) -> tuple[float, float]:
        """Return wall and CPU seconds."""
        return statistics.median(wall for wall, _ in self.runs), statistics.median(cpu for _, cpu in self.runs)


@dataclass(frozen=True)
class DataPath:
    """What was measured of the data path over one link: so many blobs, their bytes, and those of the same after `zstd -3`."""

    link: str
    cases: tuple[Case, ...]
    count: int
    size_bytes: int
    packed_bytes: int
    has_verity: bool

    def slowest(self) -> Case:
        """Return the part that bounds all ways."""
        return max((case for case in self.cases if case.name in LIMITS), key=lambda case: case.medians()[0])

    def share(self, case: Case) -> float:
        """Return how near a way comes to the slowest part: 1 is as fast."""
        return self.slowest().medians()[0] / case.medians()[0]


def write_report(docs: Path | None, data_paths: tuple[DataPath, ...], host: tuple[Reimage, InPlace] | None) -> str:
    """Return the report as text; with a folder `docs`, put it between the marks of bench-flash.md and write bench-flash.svg."""
    text = render(data_paths, host)
    if docs is not None:
        page = docs / "bench-flash.md"
        before, _, rest = page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        write_whole(page, f"{before}{BEGIN}\n\n{text}\n{END}{after}")
        if host is not None:
            write_whole(docs / "bench-flash.svg", draw(host[0].spans))
    return text


def render(data_paths: tuple[DataPath, ...], host: tuple[Reimage, InPlace] | None) -> str:
    """Return all that was measured."""
    sections = [
        _data_paths(data_paths),
        *((_in_place(host[1]), _reimage(host[0])) if host else ("Lab host: not measured.\n",)),
    ]
    return "\n".join([*sections, _machine(data_paths[0])])


def _data_paths(found: tuple[DataPath, ...]) -> str:
    first = found[0]
    runs = len(first.cases[0].runs)
    head = (
        f"{first.count} blobs of a baked lab image, {first.size_bytes / 1e6:.0f} MB ({first.packed_bytes / 1e6:.0f} MB "
        f"after `zstd -3`); medians of {runs} runs in turns."
    )
    return "\n".join(("## The data path", "", head, "", *(line for one in found for line in _data_path(one))))


def _data_path(found: DataPath) -> tuple[str, ...]:
    rows = []
    for case in found.cases:
        wall, cpu = case.medians()
        share = "" if case.name in LIMITS else f"{found.share(case):.2f}"
        name, rate = case.name.replace("|", "&#124;"), found.size_bytes / 1e6 / wall
        rows.append(f"| {name} | {wall:.2f} | {rate:.0f} | {cpu:.2f} | {share} | {case.checks} |")
    agent, slowest = next(case for case in found.cases if case.name == AGENT), found.slowest()
    share = found.share(agent)
    return (
        f"| over {found.link} | seconds | MB/s | CPU s | of the slowest | checks |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        (
            f"Target: the agent reaches {SHARE} of the slowest of link, decode and disk. "
            f"Over {found.link} it is {share:.2f} of {slowest.name}: {'met' if share >= SHARE else 'missed'}."
        ),
        "",
    )


def _in_place(found: InPlace) -> str:
    return "\n".join(
        (
            "## In place, one small layer changed",
            "",
            (
                f"`qtrade flash` of a lab host that runs, whole: {found.whole_s:.1f} s. In it {found.bytes_fetched / 1e6:.1f} MB "
                f"were transferred, in {found.transfer_s:.1f} s; the image's other layers were there."
            ),
            "",
            table(found.spans),
            "",
        )
    )


def _reimage(found: Reimage) -> str:
    return "\n".join(
        (
            "## A blank lab host from power-on to healthy",
            "",
            f"{total_s(found.spans):.1f} s through the door `{found.door}`, with {found.bytes_fetched / 1e6:.0f} MB transferred.",
            "",
            table(found.spans),
            "",
            "![states of the reimage over time](bench-flash.svg)",
            "",
        )
    )


def _machine(found: DataPath) -> str:
    verity = "has fs-verity" if found.has_verity else "has no fs-verity, so that what is there already is read in full"
    settings = load_settings()
    is_kvm = has_tools(settings.tools_dir) and find_qemu(settings, open_tools(settings)).has_kvm
    accelerator = "KVM" if is_kvm else "TCG (no KVM)"
    python = platform.python_version()
    return f"Machine: {os.cpu_count()} cores, Linux {platform.release()}, which {verity}; {accelerator}. Python {python}.\n"
