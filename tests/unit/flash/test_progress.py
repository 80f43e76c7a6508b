"""What people and the journal see of a transfer."""

import io
import json
from types import SimpleNamespace

import pytest

from flash.agent.imagelist import Blob
from flash.agent.report import Reporter, tell_fetch
from flash.doors import shared
from flash.progress import FetchProgress
from qtrade.errors import HostError
from qtrade.reporter import ConsoleReporter
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

MB = 1_000_000


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def events(*steps):
    """Return what the agent tells when (seconds, blob, bytes done) happen; `b` was there before."""
    stream, clock = io.StringIO(), Clock()
    blobs = {name: Blob(name * 64, size, "", name) for name, size in (("a", 20 * MB), ("b", 30 * MB), ("c", 50 * MB))}
    tell = tell_fetch(Reporter(stream=stream), blobs.values(), clock)
    for seconds, name, done in steps:
        clock.now = 100 + seconds
        tell(blobs[name], done, was_there=name == "b")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_rate_is_of_what_travels_and_eta_of_what_is_left():
    told = events(
        (0, "b", 30 * MB), (0, "a", 1), (1, "a", 10 * MB), (1.5, "a", 15 * MB), (2, "a", 20 * MB), (4, "c", 20 * MB)
    )
    last = told[-1]
    assert (last["done_bytes"], last["total_bytes"]) == (70 * MB, 100 * MB)
    assert last["bytes_per_s"] == pytest.approx(10 * MB, rel=0.01)
    assert last["eta_s"] == 3
    assert (last["blob_done_bytes"], last["blob_bytes"], last["role"]) == (20 * MB, 50 * MB, "c")
    # One a second at most, and one for each blob that is whole.
    assert len(told) == 4


def test_people_see_each_blob_and_the_journal_its_sum():
    reporter, clock, bar = RecordingReporter(), Clock(), []
    progress = FetchProgress(reporter, bar.append, clock)
    for event in events((0, "b", 30 * MB), (1, "a", 1 * MB), (2, "a", 20 * MB), (4, "c", 1 * MB), (5, "c", 50 * MB)):
        progress.take(event)
        clock.now += 2
    assert bar == [30 * MB, 31 * MB, 50 * MB, 51 * MB, 100 * MB]
    assert reporter.lines == [
        "  a: 20.0 MB, 10.0 MB/s, 5 s left",
        "  c: 50.0 MB, 14.0 MB/s",
    ]
    assert progress.summary() == {"fetch_seconds": 8.0, "blobs": 3, "best_bytes_per_s": 14_000_000}


def test_events_of_an_older_agent_move_the_bar():
    bar = []
    progress = FetchProgress(RecordingReporter(), bar.append)
    progress.take({"step": "fetch", "role": "base", "blob": "x", "done_bytes": 5})
    assert bar == [5]


def test_a_warning_of_the_agent_is_said():
    reporter = RecordingReporter()
    FetchProgress(reporter, lambda _: None).take({"step": "warning", "text": "sdb has an ESP too"})
    assert reporter.lines == ["warning: sdb has an ESP too"]


def test_a_pipe_gets_a_line_now_and_then(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr("qtrade.reporter.time.monotonic", clock)
    with ConsoleReporter().transfer("layers", 100 * MB) as advance:
        for second in range(30):
            clock.now = 100 + second
            advance(second * MB)
    assert capsys.readouterr().err.splitlines() == [
        "… layers: 100.0 MB",
        "… layers: 10.0 of 100.0 MB, 1.0 MB/s, 90 s left",
        "… layers: 20.0 of 100.0 MB, 1.0 MB/s, 80 s left",
    ]


def context(protected, data):
    host = SimpleNamespace(name="lab-1", protected_disks=[1] * protected, data_disks=[1] * data)
    return SimpleNamespace(host=host)


def row(serial, *, after="x"):
    return {"serial": serial, "before": "x", "after": after}


def test_the_proof_names_every_disk():
    rows = [row("LEDGER"), row("DATA")]
    assert shared.require_untouched(context(1, 1), rows) == {"protected": rows, "unproven_disks": 0}
    # An older agent on the host says nothing of data disks.
    assert shared.require_untouched(context(1, 1), rows[:1])["unproven_disks"] == 1
    with pytest.raises(HostError, match="proves 0 of 1 protected disks"):
        shared.require_untouched(context(1, 0), [])
    with pytest.raises(HostError, match="changed: DATA"):
        shared.require_untouched(context(1, 1), [row("LEDGER"), row("DATA", after="y")])
