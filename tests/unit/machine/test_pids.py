"""Processes are ended only when their command line says that they are ours."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from qtrade.machine import pids

pytestmark = pytest.mark.unit


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    code = "import sys, time; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, "mark-of-qtrade/lab-1/"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_foreign_process_is_left_alone(child) -> None:
    assert not pids.end_process(child.pid, ("mark-of-qtrade/lab-2/",))
    assert child.poll() is None


def test_ours_is_found_and_ended(child) -> None:
    marks = (sys.executable, "mark-of-qtrade/lab-1/")
    assert pids.find_processes(marks) == [child.pid]
    assert pids.end_process(child.pid, marks)
    child.wait(5)
    assert pids.find_processes(marks) == []
    assert not pids.end_process(child.pid, marks)


def test_start_time_names_a_process(child) -> None:
    assert pids.read_start_time(os.getpid()) not in {None, pids.read_start_time(child.pid)}
    child.kill()
    child.wait()
    assert pids.read_start_time(child.pid) is None
