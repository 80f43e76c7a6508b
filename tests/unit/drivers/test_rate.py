"""The token bucket: bursts, the long run, pauses, and several processes on one file."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from flash.drivers.rate import TokenBucket

pytestmark = pytest.mark.unit


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def bucket(path: Path | None, clock: Time) -> TokenBucket:
    return TokenBucket(path, per_s=2.0, burst=4, clock=clock.clock, sleep=clock.sleep)


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_burst_goes_at_once_and_the_rest_waits(tmp_path: Path, *, is_shared: bool) -> None:
    clock = Time()
    tokens = bucket(tmp_path / "api" / "x.json" if is_shared else None, clock)
    for _ in range(4):
        tokens.take()
    assert clock.slept == 0
    for _ in range(10):
        tokens.take()
    assert clock.slept == pytest.approx(5.0)


def test_a_pause_holds_the_other_process_too(tmp_path: Path) -> None:
    clock, path = Time(), tmp_path / "x.json"
    bucket(path, clock).pause(30)
    bucket(path, clock).take()
    assert clock.slept == pytest.approx(30.5)


@pytest.mark.parametrize("content", ["", "{damaged", "[]", '["a", 1]', "null"])
def test_a_damaged_file_is_a_full_bucket(tmp_path: Path, content: str) -> None:
    clock, path = Time(), tmp_path / "x.json"
    path.write_text(content)
    bucket(path, clock).take()
    assert clock.slept == 0
    assert json.loads(path.read_text())[0] == 3


def test_a_clock_that_went_back_does_no_harm(tmp_path: Path) -> None:
    clock, path = Time(), tmp_path / "x.json"
    tokens = bucket(path, clock)
    tokens.take()
    clock.now -= 500
    for _ in range(3):
        tokens.take()
    assert clock.slept == 0


def _take(path: Path, count: int) -> None:
    tokens = TokenBucket(path, per_s=50.0, burst=5)
    for _ in range(count):
        tokens.take()


def test_processes_share_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    context = multiprocessing.get_context("fork")
    began = time.monotonic()
    workers = [context.Process(target=_take, args=(path, 10)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    # 30 requests, of which 5 are free, at 50 in a second.
    assert time.monotonic() - began >= 0.48
