"""The bench measures whole process trees, ends them in time, and leaves nothing of them behind."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.bench.cases import Job
from tests.bench.measure import detach_loops, run_measured

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def sh(text: str, *left: Path, timeout_s: float = 60) -> Job:
    return Job(("bash", "-c", text), lambda: left, timeout_s=timeout_s)


def test_cpu_of_grandchildren_and_sizes_count(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    burn = "python3 -c 'import time\nwhile time.process_time() < 0.5: pass'"
    job = sh(f"mkdir {folder}; (({burn}); head -c 2097152 /dev/zero > {folder}/a; ln -s a {folder}/b)", folder)
    run = run_measured(job, tmp_path / "log", tmp_path)
    assert (run.failed, run.size_mib) == ("", 2.0)
    assert run.cpu_s >= 0.5
    assert run.rss_mib > 1


def test_a_run_that_fails_or_leaves_nothing_says_so(tmp_path: Path) -> None:
    assert run_measured(sh("echo no; exit 3"), tmp_path / "log", tmp_path).failed == "ended with code 3"
    assert (tmp_path / "log").read_text() == "no\n"
    assert run_measured(sh("true", tmp_path / "image"), tmp_path / "log", tmp_path).failed == "left no image"


def test_a_run_that_takes_too_long_dies_with_all_it_started(tmp_path: Path) -> None:
    mark = f"{600 + os.getpid()}.25"
    # The inner one leaves the session and ignores SIGTERM, as badly written tools do.
    job = sh(f"trap '' TERM; setsid sleep {mark} & touch {tmp_path}/started; sleep {mark}", timeout_s=2)
    assert run_measured(job, tmp_path / "log", tmp_path).failed == "> 2 s"
    assert (tmp_path / "started").exists()
    left = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_mounts_do_not_outlive_a_run(tmp_path: Path) -> None:
    job = sh(f"mount -t tmpfs bench-test {tmp_path} && grep -c bench-test /proc/mounts")
    assert run_measured(job, tmp_path / "log", tmp_path).failed == ""
    assert (tmp_path / "log").read_text() == "1\n"
    assert "bench-test" not in Path("/proc/mounts").read_text()


def test_loop_devices_that_a_run_leaves_are_detached(tmp_path: Path) -> None:
    job = sh(f"truncate -s 1M {tmp_path}/disk; losetup --find --show {tmp_path}/disk")
    run = run_measured(job, tmp_path / "log", tmp_path)
    device = (tmp_path / "log").read_text().strip()
    assert run.failed == ""
    assert run.loops == (Path(device).name,)
    assert detach_loops(tmp_path) == ()
