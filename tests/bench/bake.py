"""Time bakes of the lab image as whole processes: medians of several runs, wall and CPU seconds, printed as a table.

Each case changes one file of a copy of the project and bakes a new version; the layers that were rebuilt are part of the result.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

QTRADE = Path(sys.executable).parent / "qtrade"
COPIED = ("manifests", "ansible", "packer", "tests/standins", "flash/agent")


@dataclass(frozen=True)
class Run:
    """One bake: wall and CPU seconds, and what it rebuilt."""

    wall_s: float
    cpu_s: float
    built: tuple[str, ...]


def bake(project: Path, version: str) -> Run:
    """Bake and measure the whole process with its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [QTRADE, "bake", "--version", version, "--json"],
        env={**os.environ, "QTRADE_PROJECT": str(project)},
        check=True,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.monotonic() - start, cpu_s, tuple(json.loads(done.stdout)["built"]))


def touch(project: Path, role: str, number: int) -> None:
    """Change one file of a role."""
    files = sorted(path for path in (project / "ansible/roles" / role).rglob("*") if path.suffix in (".service", ".j2"))
    target = next(path for path in files if "/config/" not in str(path))
    with target.open("a") as sink:
        sink.write(f"# change {number}\n")


def main() -> None:
    """Run all cases and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    stamp = int(time.time())
    with tempfile.TemporaryDirectory(dir=os.environ["QTRADE_STATE_DIR"]) as folder:
        project = Path(folder) / "project"
        for name in COPIED:
            shutil.copytree(name, project / name, symlinks=True)
        first = f"0.0.{stamp}"
        bake(project, first)
        table = {"nothing changed": [bake(project, first) for _ in range(runs)]}
        for role in ("qtrade_client", "ufw_solana"):
            results = []
            for number in range(runs):
                touch(project, role, number + stamp)
                results.append(bake(project, f"{first}.{role[0]}{number}"))
            table[f"one file of {role} changed"] = results
    print(f"{'case':32} {'wall s':>8} {'CPU s':>8}  rebuilt (median of {runs})")
    for case, results in table.items():
        wall = statistics.median(run.wall_s for run in results)
        cpu = statistics.median(run.cpu_s for run in results)
        print(f"{case:32} {wall:8.2f} {cpu:8.2f}  {', '.join(results[-1].built) or 'nothing'}")


if __name__ == "__main__":
    main()
