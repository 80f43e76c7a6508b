"""Measuring programs of the roles geyser and postgres: what they make of what they saw."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit

ROLES = Path(__file__).parents[3] / "ansible/roles"


def load(path: str, monkeypatch) -> ModuleType:
    file = ROLES / path
    monkeypatch.syspath_prepend(str(file.parent))
    spec = importlib.util.spec_from_file_location(f"measured_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stream(monkeypatch) -> ModuleType:
    return load("geyser/files/usr/lib/qtrade/geyser/measure.py", monkeypatch)


@pytest.fixture
def writes(monkeypatch) -> ModuleType:
    return load("postgres/files/usr/lib/qtrade/postgres/bench.py", monkeypatch)


def taken(stream: ModuleType, slots: list[int], delays: list[float], problem: str = ""):
    made = stream.Taken(slots=slots, problem=problem)
    made.delays.extend(delays)
    return made


def test_an_update_is_read_as_upstream_writes_it(stream) -> None:
    field = stream.http2.write_field
    created = field(1, 1_900_000_000) + field(2, 250_000_000)
    message = field(1, b"qtrade") + field(3, field(1, 77) + field(2, 76)) + field(11, created)
    assert stream.read_update(message) == (77, 1_900_000_000.25)
    assert stream.read_update(field(6, b"") + field(11, created)) == (None, 1_900_000_000.25)
    one = stream.Taken()
    stream.take(one, message, 1_900_000_000.75)
    stream.take(one, field(6, b""), 1.0)
    assert (one.slots, list(one.delays)) == ([77], [0.5])


def test_slots_that_are_missing_are_counted_whatever_their_order(stream) -> None:
    assert stream.count_gaps([]) == 0
    assert stream.count_gaps([5, 6, 6, 8]) == 1
    assert stream.count_gaps([8, 5]) == 2


def test_each_subscription_has_to_see_slots_advance(stream) -> None:
    good = taken(stream, [1, 2, 3], [0.001, 0.002, 0.003])
    told = stream.judge([good], 2)
    assert told == {
        "delay_p50_ms": 2.0, "delay_p90_ms": 3.0, "delay_p99_ms": 3.0, "delay_max_ms": 3.0,
        "slots_per_s": 1.5, "slot_gaps": 0, "reasons": [],
    }  # fmt: skip
    still = stream.judge([good, taken(stream, [7, 7], [])], 2)
    assert still["reasons"] == ["1 of 2 subscriptions saw no slots advance"]
    broken = stream.judge([taken(stream, [], [], "ConnectionError: x")], 2)
    assert broken["reasons"] == ["1 of 1 subscriptions failed: ConnectionError: x"]
    assert "delay_p50_ms" not in broken, "nothing seen is no delay of 0"


def test_pgbenchs_log_is_read_and_failed_transactions_have_no_time(writes) -> None:
    text = "0 1 2500 0 1764433000 100\n1 1 failed 0 1764433000 101\n0 2 1500 0 1764433000 102 900\nhalf a line\n"
    assert writes.read_log(text) == [2500, 1500]


def test_rows_that_are_missing_fail_the_measurement(writes) -> None:
    assert writes.judge([1000, 3000], 2, 2.0, "", 0) == {
        "write_p50_ms": 1.0, "write_p90_ms": 3.0, "write_p99_ms": 3.0, "write_max_ms": 3.0,
        "writes_per_s": 1.0, "reasons": [],
    }  # fmt: skip
    told = writes.judge([1000], 2, 2.0, "connection lost\n", 2)
    assert told["reasons"] == ["pgbench ended with code 2: connection lost", "1 of 2 rows were written"]
    assert set(writes.judge([], 2, 0.0, "", 1)) == {"writes_per_s", "reasons"}
