"""Measure the data path of a flash beside a pipe and a plain writer, then flashes of a lab host: `python -m tests.bench.flash`.

The blobs are those of a baked image. They come from the controller's own server, over links of several rates, into an ext4 in a file.
The report is the part between the marks of docs/bench-flash.md, and its picture.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flash.agent.imagelist import Blob
from flash.agent.partition import SYSTEM_FORMAT
from flash.agent.verity import enable, hash_file
from qtrade.settings import Settings, load_settings
from tests.bench import flash_host
from tests.bench.flash_cases import make_plan
from tests.bench.flash_link import LINKS, link
from tests.bench.flash_report import Case, DataPath, write_report

_SERVER = (sys.executable, "-m", "tests.bench.flash_cases")
# All blobs in one compressed file, which has a digest's name, as the server wants it.
_PACKED = "f" * 64
_WORKER = (sys.executable, "-m", "tests.bench.flash_fetch")


def main() -> None:
    """Read the arguments, measure, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each way to bring blobs to the disk, in turns")
    parser.add_argument("--host-runs", type=int, default=3, help="flashes of a lab host of each kind; 0: none")
    parser.add_argument("--most-mib", type=int, default=800, help="leave out blobs beyond this sum")
    parser.add_argument("--no-report", action="store_true", help="print, but leave docs/ as it is")
    asked = parser.parse_args()
    settings = _own_store()
    scratch = settings.state_dir / "bench-flash"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        flash_host.bake(settings)
        data_paths = _measure(settings.store / "blobs", scratch, asked.runs, asked.most_mib << 20)
        host = flash_host.measure_host(settings, asked.host_runs, scratch) if asked.host_runs else None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    docs = None if asked.no_report else settings.project / "docs"
    sys.stdout.write(write_report(docs, data_paths, host))


def _own_store() -> Settings:
    """Return settings with a store of the bench's own: layers are kept from run to run, versions are not."""
    os.environ["QTRADE_STATE_DIR"] = str(load_settings().state_dir)
    os.environ["QTRADE_STORE"] = str(load_settings().state_dir / "bench-store")
    settings = load_settings()
    shutil.rmtree(settings.store / "versions", ignore_errors=True)
    return settings


def _measure(store: Path, scratch: Path, runs: int, most: int) -> tuple[DataPath, ...]:
    blobs = _choose(store, most)
    total = sum(blob.size_bytes for blob in blobs)
    plan = scratch / "plan.json"
    plan.write_text(json.dumps(make_plan(store, blobs)))
    raw = scratch / "set.raw"
    with raw.open("wb") as sink:
        for blob in blobs:
            sink.write((store / blob.sha256).read_bytes())
    packed = scratch / "served"
    packed.mkdir()
    for blob in blobs:
        (packed / blob.sha256).symlink_to(store / blob.sha256)
    subprocess.run(["zstd", "-q", "-3", "-T0", str(raw), "-o", str(packed / _PACKED)], check=True)
    found = []
    with _mounted(scratch, total * 2 + (256 << 20)) as target:
        has_verity = _has_verity(target)
        for link_name, rate in LINKS.items():
            with link(rate) as inside, _served(packed, inside) as url:
                cases = _cases(url, blobs, target, scratch)
                for _ in range(runs):
                    for case in cases:
                        case.runs.append(_run((*inside, "bash", "-c", case.command), target))
            packed_bytes = (packed / _PACKED).stat().st_size
            found.append(DataPath(link_name, tuple(cases), len(blobs), total, packed_bytes, has_verity=has_verity))
    return tuple(found)


def _cases(url: str, blobs: list[Blob], target: Path, scratch: Path) -> list[Case]:
    raw, packed, plan = scratch / "set.raw", scratch / "served" / _PACKED, scratch / "plan.json"
    every = " ".join(f"{url}/blobs/{blob.sha256}" for blob in blobs)
    worker, dd = shlex.join(_WORKER), f"dd of={target}/raw bs=1M conv=fsync status=none"
    pipe = f"set -o pipefail; curl -sS {url}/blobs/{_PACKED} | zstd -dcq | {dd}"
    return [
        Case("link", f"curl -sS {every} >/dev/null", "the server and the link alone"),
        Case("decode", f"zstd -dcq {packed} >/dev/null", "`zstd -d` alone"),
        Case("disk", f"dd if={raw} of={target}/raw bs=4M conv=fsync status=none", "`dd` from memory, flushed"),
        Case("zstd | dd", pipe, "nothing"),
        Case("plain Python", f"{worker} plain {url} {target} {plan}", "nothing"),
        Case("agent", f"{worker} agent {url} {target} {plan}", "every byte, read back from the disk"),
    ]


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
def _served(store: Path, inside: tuple[str, ...]) -> Iterator[str]:
    server = subprocess.Popen([*inside, *_SERVER, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(timeout=30)
        server.stdout.close()


def _run(argv: tuple[str, ...], target: Path) -> tuple[float, float]:
    for path in target.iterdir():
        if path.name != "lost+found":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.sync()
    return _timed(argv)


def _timed(argv: tuple[str, ...]) -> tuple[float, float]:
    start = time.monotonic()
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"bench: {shlex.join(argv)}: {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


def _has_verity(target: Path) -> bool:
    path = target / "try"
    path.write_bytes(b"x")
    try:
        return enable(path)
    finally:
        path.unlink()


if __name__ == "__main__":
    main()
