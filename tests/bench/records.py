"""The runs that were measured, one JSON file each, so that a bench that was stopped goes on where it was."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cases import Case
from tests.bench.measure import Run

# A case whose first run takes longer is run once, unless a target compares it.
SLOW_S = 20.0
COMPARED = frozenset({("qtrade", Case.DEBS), ("packer-chroot", Case.DEBS)})


@dataclass(frozen=True)
class Cell:
    """All runs of one peer in one case: medians of those that succeeded, and the reason of the last that did not."""

    runs: int
    wall_s: float
    cpu_s: float
    rss_mib: float
    size_mib: float
    failed: str = ""


class Records:
    """A folder of runs. A run is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, peer: str, case: Case, run: Run, machine: dict[str, str]) -> None:
        """Keep a run, with what is known of the machine and the tool."""
        number = len(self.runs(peer, case))
        path = self._folder / f"{peer}.{case}.{number}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"run": run.fields(), "machine": machine}, indent=1, sort_keys=True) + "\n")
        fresh.replace(path)

    def runs(self, peer: str, case: Case) -> tuple[Run, ...]:
        """Return the runs of a case, oldest first."""
        paths = self._folder.glob(f"{peer}.{case}.*.json")
        found = [
            json.loads(path.read_text())["run"] for path in sorted(paths, key=lambda path: int(path.suffixes[-2][1:]))
        ]
        return tuple(Run(**{**fields, "loops": tuple(fields["loops"])}) for fields in found)

    def machines(self) -> tuple[dict[str, str], ...]:
        """Return what was noted of machine and tools, without repetition."""
        found = [json.loads(path.read_text())["machine"] for path in sorted(self._folder.glob("*.json"))]
        return tuple({json.dumps(machine, sort_keys=True): machine for machine in found}.values())

    def left_loops(self) -> tuple[str, ...]:
        """Return the tools that left loop devices behind."""
        found = set()
        for path in self._folder.glob("*.json"):
            if json.loads(path.read_text())["run"]["loops"]:
                found.add(path.name.partition(".")[0])
        return tuple(sorted(found))

    def is_done(self, peer: str, case: Case, wanted: int) -> bool:
        """Return whether the case needs no more runs: it has them, its first was slow, or its first failed."""
        runs = self.runs(peer, case)
        if len(runs) >= wanted or not runs:
            return len(runs) >= wanted
        return bool(runs[0].failed) or (runs[0].wall_s > SLOW_S and (peer, case) not in COMPARED)

    def cell(self, peer: str, case: Case) -> Cell | None:
        """Return the medians of a case, or nothing when it was not run."""
        runs = self.runs(peer, case)
        good = [run for run in runs if not run.failed]
        if not runs:
            return None
        shown = good or list(runs)
        return Cell(
            runs=len(shown),
            wall_s=statistics.median(run.wall_s for run in shown),
            cpu_s=statistics.median(run.cpu_s for run in shown),
            rss_mib=statistics.median(run.rss_mib for run in shown),
            size_mib=statistics.median(run.size_mib for run in shown),
            failed="" if good else runs[-1].failed,
        )

    def clear(self) -> None:
        """Forget all runs."""
        for path in self._folder.glob("*.json"):
            path.unlink()
