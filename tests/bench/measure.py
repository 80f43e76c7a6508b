"""Run one program to its end and measure it: wall, CPU, memory, and the size of what it left."""

import os
import select
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from qtrade.process import DIES_WITH_US, clean_env
from tests.bench.cases import Job

# A process namespace of its own wants its own /proc.
_ALONE = (*DIES_WITH_US[:-1], "--mount-proc", "--")


@dataclass(frozen=True)
class Run:
    """A measured run. `rss_mib` is that of its largest process; `failed` says why there is no result, `loops` what it left behind."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    size_mib: float
    failed: str = ""
    loops: tuple[str, ...] = ()

    def fields(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


def run_measured(job: Job, log: Path, scratch: Path) -> Run:
    """Run the job in mount and process namespaces of its own, output to `log`; mounts and processes die with them.

    Loop devices on files below `scratch` that it leaves are detached and named in the result.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        start = time.monotonic()
        child = subprocess.Popen(
            [*_ALONE, *job.argv], env=clean_env(job.env), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
        is_late = not _ends_within(child.pid, job.timeout_s)
        if is_late:
            os.kill(child.pid, signal.SIGKILL)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - start
    child.returncode = code = os.waitstatus_to_exitcode(status)
    failed = f"> {job.timeout_s:.0f} s" if is_late else f"ended with code {code}" if code else ""
    artefacts = () if failed else job.left()
    lost = [path.name for path in artefacts if not path.exists()]
    if lost:
        failed = f"left no {lost[0]}"
    size = sum(size_of(path) for path in artefacts if path.exists())
    return Run(
        wall_s=round(wall_s, 3),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
        rss_mib=round(usage.ru_maxrss / 1024, 1),
        size_mib=round(size / 2**20, 1),
        failed=failed,
        loops=detach_loops(scratch),
    )


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def detach_loops(scratch: Path) -> tuple[str, ...]:
    """Detach the loop devices on files below `scratch`; return their names."""
    found = []
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            file = backing.read_text().strip()
        except OSError:  # detached while we looked
            continue
        if file.startswith(f"{scratch}/"):
            device = backing.parent.parent.name
            subprocess.run(["losetup", "--detach", f"/dev/{device}"], check=False, timeout=60)
            found.append(device)
    return tuple(found)


def _ends_within(pid: int, timeout_s: float) -> bool:
    handle = os.pidfd_open(pid)
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)
