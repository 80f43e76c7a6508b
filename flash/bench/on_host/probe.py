"""What a host can do with what it has: memory, one file on one folder, a fetch or a peer, its own RPC. Nothing is installed, nothing stays.

Each part gives figures, or says why it gives none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY_BYTES = 64 << 20
FETCH_BYTES = 256 << 20
_ROUNDS = 8
_SECONDS = 15
_PART = 1 << 20
# File systems that are no disk: a figure of theirs would be one of memory.
_MEMORY = ("tmpfs", "ramfs", "overlay")


class NotMeasuredError(Exception):
    """There is no figure, and this is why."""


def measure_memory() -> dict[str, float]:
    """Copy memory on one thread, as STREAM's Copy counts it: bytes read and written; the best of some rounds."""
    source, target = bytearray(os.urandom(1 << 20)) * (MEMORY_BYTES >> 20), memoryview(bytearray(MEMORY_BYTES))
    best = min(_time(lambda: target.__setitem__(slice(None), source)) for _ in range(_ROUNDS))
    return {"memory_copy_gib_s": 2 * MEMORY_BYTES / best / (1 << 30)}


def _time(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return max(time.perf_counter() - start, 1e-9)


def check_folder(folder: str, forbidden: list[str], mounts: str) -> None:
    """Raise `NotMeasuredError` unless the folder is on a disk that may be written to: none of `forbidden` is its mount, nor above it.

    `mounts` is the text of /proc/self/mounts.
    """
    real = os.path.realpath(folder)
    if not Path(real).is_dir():
        raise NotMeasuredError(f"{folder} is no folder on the host")
    for path in forbidden:
        if os.path.commonpath([real, os.path.realpath(path)]) == os.path.realpath(path):
            raise NotMeasuredError(f"{folder} is on {path}, which is never written to for a measurement")
    points = [line.split()[:3] for line in mounts.splitlines()]
    above = [one for one in points if os.path.commonpath([real, one[1]]) == one[1]]
    _, point, kind = max(above, key=lambda one: len(one[1]))
    devices = {one[0] for one in points if one[1] in {os.path.realpath(path) for path in forbidden}}
    device = next(one[0] for one in reversed(above) if one[1] == point)
    if kind in _MEMORY:
        raise NotMeasuredError(f"{folder} is on a {kind}, which is no disk")
    if device in devices:
        raise NotMeasuredError(f"{folder} is on {device}, which also holds {', '.join(forbidden)}")


def measure_disk(folder: str, size_mib: int, forbidden: list[str]) -> dict[str, float]:
    """Let fio write and read one file of that size, past the page cache, and remove it. Raises `NotMeasuredError`."""
    program = shutil.which("fio")
    if program is None:
        raise NotMeasuredError("the host has no fio (in a recipe: packages of the layer bare_metal)")
    check_folder(folder, forbidden, Path("/proc/self/mounts").read_text())
    if shutil.disk_usage(folder).free < 4 * size_mib << 20:
        raise NotMeasuredError(f"{folder} has less than four times {size_mib} MiB left")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="qtrade-bench-", dir=folder) as work:
        for name, options in FIO_JOBS.items():
            found |= read_fio(name, _run_fio(program, work, name, size_mib, options))
    return found


FIO_JOBS = {
    "seq_read": ("--rw=read", "--bs=1M", "--iodepth=8"),
    "rand_read": ("--rw=randread", "--bs=4k", "--iodepth=32"),
    "rand_write": ("--rw=randwrite", "--bs=4k", "--iodepth=32"),
    # What a database waits for.
    "sync_write": ("--rw=write", "--bs=8k", "--iodepth=1", "--fdatasync=1"),
}


def _run_fio(program: str, work: str, name: str, size_mib: int, options: tuple[str, ...]) -> str:
    argv = [
        program, f"--name={name}", f"--filename={work}/file", f"--size={size_mib}M", "--direct=1", "--ioengine=libaio",
        "--time_based", f"--runtime={_SECONDS}", "--output-format=json", "--allow_file_create=1", *options,
    ]  # fmt: skip
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=6 * _SECONDS).stdout
    except subprocess.CalledProcessError as error:
        raise NotMeasuredError(f"fio: {error.stderr.strip()[-150:]}") from error
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError("fio took too long") from error


def read_fio(name: str, text: str) -> dict[str, float]:
    """Return rate, operations a second and p99 of one job of fio's JSON. Raises `NotMeasuredError` for another form."""
    try:
        told = json.loads(text[text.index("{") :])["jobs"][0]["write" if name.endswith("write") else "read"]
        figures = {f"disk_{name}_mib_s": told["bw_bytes"] / (1 << 20), f"disk_{name}_iops": float(told["iops"])}
        slow = told["clat_ns"].get("percentile", {}).get("99.000000")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NotMeasuredError(f"fio tells {name} in another form: {error!r}"[:150]) from error
    return {**figures, **({f"disk_{name}_p99_ms": slow / 1e6} if slow is not None else {})}


def measure_network(peer: str | None, url: str | None) -> dict[str, float]:
    """Send to an iperf3 server, or fetch a bounded number of bytes. Raises `NotMeasuredError`."""
    if peer is not None:
        program = shutil.which("iperf3")
        if program is None:
            raise NotMeasuredError("the host has no iperf3 (in a recipe: packages of the layer bare_metal)")
        argv = [program, "--client", peer, "--time", "10", "--json", "--connect-timeout", "5000"]
        try:
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
            return {"network_mbit_s": json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e6}
        except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
            raise NotMeasuredError(f"iperf3 to {peer}: {type(error).__name__}") from error
    if url is None:
        raise NotMeasuredError("the host's manifest names neither bench.iperf_peer nor bench.fetch_url")
    return {"network_fetch_mbit_s": _fetch(url)}


def _fetch(url: str) -> float:
    """Return Mbit/s of a fetch, of at most so many bytes and seconds."""
    start, size = time.perf_counter(), 0
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - http or https, by the manifest's model
            while size < FETCH_BYTES and time.perf_counter() - start < _SECONDS:
                part = answer.read(_PART)
                if not part:
                    break
                size += len(part)
    except (OSError, ValueError) as error:
        raise NotMeasuredError(f"{url}: {type(error).__name__}") from error
    if size < _PART:
        raise NotMeasuredError(f"{url} gave {size} bytes, too few to tell a rate")
    return size * 8 / 1e6 / (time.perf_counter() - start)


PARTS = {
    "memory": ("memory_copy_gib_s",),
    "disk": tuple(f"disk_{name}_{unit}" for name in FIO_JOBS for unit in ("mib_s", "iops", "p99_ms")),
    "network": ("network_mbit_s",),
}


def main(asked: dict[str, Any]) -> None:
    """Measure each part, and print a line when one is done."""
    disk, network = asked["disk"], asked["network"]
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "memory": measure_memory,
        "disk": lambda: measure_disk(disk["folder"], disk["size_mib"], disk["forbidden"]),
        "network": lambda: measure_network(network["peer"], network["url"]),
    }
    figures: dict[str, float] = {}
    missing: dict[str, str] = dict(asked["missing"])
    for name, measure in parts.items():
        if name in missing:
            continue
        try:
            figures |= measure()
        except NotMeasuredError as why:
            missing[name] = str(why)
        except (OSError, MemoryError) as error:
            missing[name] = f"{type(error).__name__}: {error}"[:150]
        sys.stdout.write(json.dumps({"progress": {"done": name}}) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps({"result": {"figures": figures, "missing": missing}}) + "\n")
