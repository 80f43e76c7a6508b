"""Measure bakes of the lab image by qtrade and other tools, and write docs/bench.md: `python -m tests.bench`.

Every run is kept as a JSON file in the state directory; the same command goes on where the last one stopped.
"""

import argparse
import dataclasses
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bake.run import load_recipe
from qtrade.machine.accel import probe_accelerator
from qtrade.settings import load_settings
from qtrade.toolsroot import open_tools
from tests.bench.cases import Bench, Case, Peer
from tests.bench.content import copy_project
from tests.bench.measure import Run, detach_loops, run_measured
from tests.bench.peers import PEERS
from tests.bench.records import Records
from tests.bench.report import write_report

_DOCS = Path("docs")


def main() -> None:
    """Read the arguments, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of a quick case; a slow one is run once")
    parser.add_argument(
        "--minutes", type=float, default=20, help="start no run after this time; the same command goes on later"
    )
    parser.add_argument("--only", action="append", choices=PEERS, help="this tool only; may be repeated")
    parser.add_argument("--case", action="append", choices=[*Case], help="this case only; may be repeated")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that are kept")
    parser.add_argument("--report-only", action="store_true", help="write the report from the runs that are kept")
    parser.add_argument("--no-report", action="store_true", help="print the table, but leave docs/ as it is")
    asked = parser.parse_args()
    settings = load_settings()
    folder = settings.state_dir / "bench"
    records = Records(folder / "runs")
    scratch = folder / "scratch"
    peers = _make_peers(scratch, asked.only)
    if asked.fresh:
        records.clear()
    if not asked.report_only:
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.error(f"another bench works in {folder}")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it cleans up
        try:
            cases = [case for case in Case if not asked.case or case in asked.case]
            _measure(peers, cases, records, asked.runs, time.monotonic() + asked.minutes * 60)
        finally:
            detach_loops(scratch)
            shutil.rmtree(scratch, ignore_errors=True)
    every = _make_peers(scratch, None)
    sys.stdout.write(write_report(None if asked.no_report else settings.project / _DOCS, every, records))


def _make_peers(scratch: Path, only: list[str] | None) -> list[Peer]:
    settings = load_settings()
    debs, pool = settings.cache_dir / "blobs", settings.state_dir / "standins/apt/pool"
    recipe = load_recipe(settings, "lab")
    bench = Bench(settings, settings.project, recipe, debs, pool)
    return [
        make(dataclasses.replace(bench, project=scratch / name / "project"), scratch / name)
        for name, make in PEERS.items()
        if not only or name in only
    ]


def _measure(peers: list[Peer], cases: list[Case], records: Records, runs: int, until: float) -> None:
    """Run what is not there yet, in turns, so that a busy minute does not hit one tool alone."""
    settings = load_settings()
    open_tools(settings)
    scratch = settings.state_dir / "bench/scratch"
    detach_loops(scratch)  # of a bench that was killed
    shutil.rmtree(scratch, ignore_errors=True)
    warm: set[str] = set()
    machine = machine_facts()
    for peer, case, number in order_cells(peers, cases, runs):
        if peer.missing() or records.is_done(peer.name, case, number):
            continue
        if time.monotonic() > until:
            _say("time is up; the same command goes on")
            return
        _measure_one(peer, case, records, warm, {**machine, "tool": peer.version()})


def order_cells(peers: list[Peer], cases: list[Case], runs: int) -> list[tuple[Peer, Case, int]]:
    """Return what to run in which order, with how many runs the case then has: tools in turns; an emulated machine at the end."""
    cells = [
        (peer, case, number + 1)
        for number in range(runs)
        for case in cases
        for peer in peers
        if case not in peer.same_as and case not in peer.left_out
    ]
    return sorted(cells, key=lambda cell: cell[0].is_emulated)


def _measure_one(peer: Peer, case: Case, records: Records, warm: set[str], machine: dict[str, str]) -> None:
    settings = load_settings()
    folder = settings.state_dir / "bench"
    scratch = folder / "scratch"
    if peer.name not in warm:
        copy_project(settings.project, scratch / peer.name / "project")
    if peer.name not in warm and case is not Case.COLD and not peer.is_emulated:
        _say(f"{peer.name}: a first bake, not counted, fills its caches")
        first = run_measured(peer.prepare(Case.DEBS, 0), folder / "logs" / f"{peer.name}.first.log", scratch)
        if first.failed:
            _say(f"{peer.name}: {first.failed}; its output is in {folder / 'logs'}")
            records.add(peer.name, case, first, machine)
            return
    _say(f"{peer.name}: {case}")
    try:
        job = peer.prepare(case, time.time_ns())
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"{peer.name}: {error}")
        records.add(peer.name, case, Run(0, 0, 0, 0, failed="could not be prepared"), machine)
        return
    run = run_measured(job, folder / "logs" / f"{peer.name}.{case}.log", scratch)
    if not run.failed:
        warm.add(peer.name)
    _say(f"{peer.name}: {case}: {run.failed or f'{run.wall_s:.2f} s, {run.cpu_s:.2f} CPU-s'}")
    records.add(peer.name, case, run, machine)


def machine_facts() -> dict[str, str]:
    """Return what the table's caption says of the machine."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    settings = load_settings()
    accelerator = " ".join(probe_accelerator(open_tools(settings), cache=settings.cache_dir))
    return {
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "accelerator": "KVM" if "kvm" in accelerator else "TCG (no KVM)",
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
