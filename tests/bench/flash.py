"""Measure the data path of a flash beside a pipe and a plain writer, and write docs/bench-flash.md: `python -m tests.bench.flash`.

The blobs are those of a baked image. They come from the controller's own server over the loopback into an ext4 in a file.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flash.agent.imagelist import Blob
from flash.agent.partition import SYSTEM_FORMAT
from flash.agent.verity import enable, hash_file
from qtrade.settings import load_settings
from tests.bench.flash_cases import make_plan
from tests.bench.flash_journal import timeline

_SERVER = (sys.executable, "-m", "tests.bench.flash_cases")
_WORKER = (sys.executable, "-m", "tests.bench.flash_fetch")
_SMALL = 8 << 20
_LIMITS = ("link", "decode", "disk")
_TEXT = """# The data path of a flash

Written by `make bench-flash`. {count} blobs of a baked lab image, {mb:.0f} MB ({packed_mb:.0f} MB after `zstd -3`), from the controller's
server over the loopback into an ext4 in a file; medians of {runs} runs in turns on {cores} cores, Linux {kernel}, which {verity}.
CPU seconds are those of the writing side. The last but one column compares with the slowest of link, decode and disk: 1 is as fast.

| | seconds | MB/s | CPU s | of the slowest | checks |
|---|---|---|---|---|---|
{rows}

The pipe and the plain writer check nothing: cut off in the middle, both leave a disk that looks done. The agent's last pass, over every
byte as the disk gives it back, is part of its time; the plain writer is what it costs to do without.

In place, with one blob of {small_mb:.1f} MB changed: {whole:.2f} s, beside {alone:.2f} s for its transfer. The start of Python and the
check of the {there_mb:.0f} MB that are there are in it; with fs-verity, the kernel vouches for those and nothing is read.
"""


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


def main() -> None:
    """Read the arguments, measure, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each, in turns")
    parser.add_argument("--most-mib", type=int, default=800, help="leave out blobs beyond this sum")
    parser.add_argument("--journal", type=Path, help="journal of a flash of a lab host, for its table and picture")
    parser.add_argument("--no-report", action="store_true", help="print, but leave docs/ as it is")
    asked = parser.parse_args()
    settings = load_settings()
    scratch = settings.state_dir / "bench-flash"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        text = _measure(settings.store / "blobs", scratch, asked.runs, asked.most_mib << 20)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    docs = settings.project / "docs"
    journal = asked.journal or _newest_journal(settings.state_dir)
    if journal is not None:
        table, picture = timeline(journal)
        text += table
        if not asked.no_report:
            (docs / "bench-flash.svg").write_text(picture)
    if not asked.no_report:
        (docs / "bench-flash.md").write_text(text)
    sys.stdout.write(text)


def _newest_journal(state_dir: Path) -> Path | None:
    found = [path for path in (state_dir / "flashes").rglob("*.jsonl") if '"COMMITTED"' in path.read_text()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _measure(store: Path, scratch: Path, runs: int, most: int) -> str:
    blobs = _choose(store, most)
    total = sum(blob.size_bytes for blob in blobs)
    plan, small = scratch / "plan.json", min(blobs, key=lambda blob: abs(blob.size_bytes - _SMALL))
    plan.write_text(json.dumps(make_plan(store, blobs)))
    raw = scratch / "set.raw"
    with raw.open("wb") as sink:
        for blob in blobs:
            sink.write((store / blob.sha256).read_bytes())
    packed = scratch / "served"
    packed.mkdir()
    for blob in blobs:
        (packed / blob.sha256).symlink_to(store / blob.sha256)
    name = "f" * 64
    subprocess.run(["zstd", "-q", "-3", "-T0", str(raw), "-o", str(packed / name)], check=True)
    with _mounted(scratch, total * 2 + (256 << 20)) as target, _served(packed) as url:
        every = " ".join(f"{url}/blobs/{blob.sha256}" for blob in blobs)
        worker, dd = shlex.join(_WORKER), f"dd of={target}/raw bs=1M conv=fsync status=none"
        cases = [
            Case("link", f"curl -sS {every} >/dev/null", "the server and the loopback alone"),
            Case("decode", f"zstd -dcq {packed / name} >/dev/null", "`zstd -d` alone"),
            Case("disk", f"dd if={raw} of={target}/raw bs=4M conv=fsync status=none", "`dd` from memory, flushed"),
            Case("zstd | dd", f"set -o pipefail; curl -sS {url}/blobs/{name} | zstd -dcq | {dd}", "nothing"),
            Case("plain Python", f"{worker} plain {url} {target} {plan}", "nothing"),
            Case("agent", f"{worker} agent {url} {target} {plan}", "every byte, read back from the disk"),
        ]  # fmt: skip
        for _ in range(runs):
            for case in cases:
                case.runs.append(_run(case.command, target))
        in_place = [_run_in_place(worker, url, target, plan, small) for _ in range(runs)]
        has_verity = _has_verity(target)
    packed_bytes = (scratch / "served" / name).stat().st_size
    return _render(cases, total, packed_bytes, len(blobs), in_place, small, has_verity=has_verity, runs=runs)


def _choose(store: Path, most: int) -> list[Blob]:
    """Return the largest blobs up to a sum; they count as kernels, that is, as blobs without a verity digest."""
    chosen, total = [], 0
    for path in sorted(store.iterdir(), key=lambda path: -path.stat().st_size):
        size = path.stat().st_size
        if total + size <= most and size > 1 << 20 and len(path.name) == 64:
            chosen.append(Blob(hash_file(path), size, "", f"blob {len(chosen)}"))
            total += size
    return chosen


@contextmanager
def _mounted(scratch: Path, size: int) -> Iterator[Path]:
    file, target = scratch / "disk", scratch / "target"
    target.mkdir()
    # Its blocks are there from the start, as those of a disk are.
    with file.open("wb") as disk:
        os.posix_fallocate(disk.fileno(), 0, size)
    subprocess.run([*SYSTEM_FORMAT, str(file)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(file), str(target)], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


@contextmanager
def _served(store: Path) -> Iterator[str]:
    server = subprocess.Popen([*_SERVER, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(timeout=30)
        server.stdout.close()


def _run(command: str, target: Path) -> tuple[float, float]:
    for path in target.iterdir():
        if path.name != "lost+found":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.sync()
    return _timed(command)


def _timed(command: str) -> tuple[float, float]:
    start = time.monotonic()
    child = subprocess.Popen(["bash", "-c", command], stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: {command}: {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


def _run_in_place(worker: str, url: str, target: Path, plan: Path, small: Blob) -> tuple[float, float]:
    """Take one small blob away that a full run left, and let the agent run again; return its time and that of the transfer alone."""
    (target / small.path).unlink()
    os.sync()
    whole, _ = _timed(f"{worker} agent {url} {target} {plan}")
    alone, _ = _timed(f"curl -sS {url}/blobs/{small.sha256} >/dev/null")
    return whole, alone


def _has_verity(target: Path) -> bool:
    path = target / "try"
    path.write_bytes(b"x")
    try:
        return enable(path)
    finally:
        path.unlink()


def _render(
    cases: list[Case], total: int, packed: int, count: int, in_place: list[tuple[float, float]], small: Blob,
    *, has_verity: bool, runs: int,
) -> str:  # fmt: skip
    slowest = max(case.medians()[0] for case in cases if case.name in _LIMITS)
    rows = []
    for case in cases:
        wall, cpu = case.medians()
        share = "" if case.name in _LIMITS else f"{slowest / wall:.2f}"
        rows.append(
            f"| {case.name.replace('|', '&#124;')} | {wall:.2f} | {total / 1e6 / wall:.0f} | {cpu:.2f} | {share} | {case.checks} |"
        )
    whole, alone = (statistics.median(values) for values in zip(*in_place, strict=True))
    verity = "has fs-verity" if has_verity else "has no fs-verity, so that what is there already is read in full"
    there = (total - small.size_bytes) / 1e6
    return _TEXT.format(
        count=count, mb=total / 1e6, packed_mb=packed / 1e6, runs=runs, cores=os.cpu_count(), kernel=platform.release(),
        verity=verity, rows="\n".join(rows), small_mb=small.size_bytes / 1e6, whole=whole, alone=alone, there_mb=there,
    )  # fmt: skip


if __name__ == "__main__":
    main()
