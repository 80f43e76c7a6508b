"""Two versions are compared per class and load; what one of them lacks is unknown, and never better."""

import random

import pytest

from flash.bench.compare import Change, compare_records, samples_of
from qtrade.trust.fleet_facts import Bench

pytestmark = pytest.mark.unit


def record(
    hardware_class: str = "A", missing: dict | None = None, asked: dict | None = None, **metrics: float
) -> Bench:
    return Bench(
        kind="load", host="rpc-1", environment="staging", recipe="demo", version="1", hardware_class=hardware_class,
        at=7, seconds=60, metrics={f"bench.{name}": value for name, value in metrics.items()},
        missing=missing or {}, asked=asked or {"rps": 50},
    )  # fmt: skip


def changes(before, after, **tolerances: float) -> dict[str, Change]:
    rows = compare_records(before, after, {f"bench.{name}": value for name, value in tolerances.items()})
    return {row.metric.removeprefix("bench."): row.change for row in rows}


@pytest.mark.parametrize(
    ("name", "before", "after", "change"),
    [
        ("rpc_p99_ms", 10, 11, Change.SAME),
        ("rpc_p99_ms", 10, 11.1, Change.WORSE),
        ("rpc_p99_ms", 10, 8.9, Change.BETTER),
        ("disk_rand_read_iops", 1000, 899, Change.WORSE),
        ("disk_rand_read_iops", 1000, 1101, Change.BETTER),
        ("rpc_error_share", 0, 0, Change.SAME),
        ("rpc_error_share", 0, 0.001, Change.WORSE),
        ("stream_slot_gaps", 0, 1, Change.WORSE),
        ("network_mbit_s", 0, 5, Change.BETTER),
    ],
)
def test_more_is_worse_or_better_by_the_kind_of_the_metric(name, before, after, change) -> None:
    assert changes([record(**{name: before})], [record(**{name: after})]) == {name: change}


def test_tolerances_are_by_metric() -> None:
    before, after = [record(rpc_p99_ms=10, rpc_p50_ms=10)], [record(rpc_p99_ms=14, rpc_p50_ms=14)]
    assert changes(before, after, rpc_p99_ms=0.5) == {"rpc_p99_ms": Change.SAME, "rpc_p50_ms": Change.WORSE}


def test_one_bad_run_of_three_does_not_decide() -> None:
    before = [record(rpc_p99_ms=value) for value in (10, 90, 10)]
    assert changes(before, [record(rpc_p99_ms=10.5)]) == {"rpc_p99_ms": Change.SAME}


def test_what_was_not_measured_is_unknown_and_says_why() -> None:
    after = record(missing={"bench.disk_seq_read_mib_s": "the host has no fio"})
    (row,) = compare_records([record(disk_seq_read_mib_s=900)], [after], {})
    assert (row.change, row.before, row.after, row.records) == (Change.UNKNOWN, None, None, (1, 0))
    assert row.why == "not measured with the later version under this load; the host has no fio"


def test_other_machines_and_other_loads_are_not_compared() -> None:
    fast = record("B", rpc_p99_ms=1)
    slow = record("A", rpc_p99_ms=9)
    harder = record("A", asked={"rps": 500}, rpc_p99_ms=99)
    rows = compare_records([slow], [fast, harder], {})
    assert {(row.hardware_class, row.change) for row in rows} == {("A", Change.UNKNOWN), ("B", Change.UNKNOWN)}
    assert [row.hardware_class for row in compare_records([slow], [fast], {}, "B")] == ["B"]


@pytest.mark.parametrize("seed", range(40))
def test_the_same_records_are_never_worse_than_themselves_nor_in_another_order(seed) -> None:
    source = random.Random(seed)
    made = [
        record(rpc_p99_ms=source.uniform(0, 50), rpc_achieved_rps=source.uniform(0, 99))
        for _ in range(source.randint(1, 9))
    ]
    shuffled = source.sample(made, len(made))
    assert set(changes(made, shuffled, rpc_p99_ms=0, rpc_achieved_rps=0).values()) == {Change.SAME}


def test_a_judge_reads_records_as_samples() -> None:
    made = record(missing={"bench.memory_copy_gib_s": "no room"}, rpc_p99_ms=4)
    found = [(one.host, one.metric, one.at, one.value, one.detail) for one in samples_of(made)]
    assert found == [
        ("rpc-1", "bench.rpc_p99_ms", 7.0, 4.0, ""),
        ("rpc-1", "bench.memory_copy_gib_s", 7.0, None, "no room"),
    ]
