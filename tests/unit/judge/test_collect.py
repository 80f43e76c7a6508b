"""Collecting: many hosts side by side, what each tells as samples, silence as samples too, and from there to a judgement."""

import asyncio
import threading

import pytest

from flash.journal import Journal
from flash.judge.answers import WATCHED
from flash.judge.collect import Collector, Watched, count_unproven
from flash.judge.record import Sample, Verdict
from flash.judge.recording import Recorder, Run, read_run, read_samples
from flash.judge.report import judge_run
from flash.states import State
from qtrade.manifest import Host
from qtrade.manifest.gates import Gates
from tests.fakes.examples import host_fields, make_image, make_settings
from tests.fakes.projects import write_project
from tests.fakes.soaking_hosts import Clock, Fleet, SoakingHost

pytestmark = pytest.mark.unit
IMAGE = make_image()
LAYERS = tuple(layer.digest for layer in IMAGE.layers)


@pytest.fixture
def settings(tmp_path):
    settings = make_settings(tmp_path)
    write_project(settings, environment={"hardware": {"rpc": {"link_mbit": 10000}}})
    return settings


def make_host(name: str) -> Host:
    return Host.model_validate(host_fields(name=name, data_disks=[{"wwid": "eui.01", "mount": "/mnt/data"}]))


def prove(settings, name: str, rows: list[dict[str, str]], unproven: int = 0) -> None:
    journal = Journal(settings.state_dir / "flashes" / name / "1.jsonl")
    journal.write(State.VERIFIED, {"protected": rows, "unproven_disks": unproven})


def hosts(*names: str, **over: object) -> Fleet:
    return Fleet(*(SoakingHost(name, IMAGE.id, LAYERS, dict(over)) for name in names))


def collect(settings, fleet: Fleet, *, rounds: int = 1, at_once: int = 4, ask=None, clock=None) -> list[Sample]:
    collector = Collector(settings, ask=ask or fleet.ask, at_once=at_once, clock=clock or Clock(1000.0, 15))
    if clock is None:
        fleet.now = lambda: collector._clock.now
    watched = [Watched(make_host(name), IMAGE) for name in fleet.hosts]

    async def gather() -> list[Sample]:
        return [one async for one in collector.observe(watched, interval_s=0.001, rounds=rounds)]

    return asyncio.run(gather())


def look(settings, **over: object) -> dict[str, tuple[float | None, str]]:
    return {one.metric: (one.value, one.detail) for one in collect(settings, hosts("rpc-1", **over))}


def test_a_healthy_host_gives_a_good_sample_of_each_metric(settings) -> None:
    prove(settings, "rpc-1", [{"serial": "LEDGER-1", "before": "a", "after": "a"}])
    found = look(settings)
    assert found.keys() == set(WATCHED)
    bad = (
        "wrong_layers",
        "unproven_disks",
        "failed_units",
        "unit_restarts",
        "link_shortfall_mbit",
        "missing_mounts",
        "kernel_faults",
    )
    assert [found[name][0] for name in bad] == [0] * len(bad)
    assert [found[name][0] for name in ("version", "clock_synchronised", "rpc_healthy", "slot_lag")] == [1, 1, 1, 1]
    assert found["metrics_sent"] == (900, "")
    assert found["geyser_slot"] == (1040, "")
    assert found["rpc_p99_ms"][1] == "of 100 calls"


@pytest.mark.parametrize(
    ("over", "metric", "value", "detail"),
    [
        (
            {"status": {"host": "rpc-1", "image": "0" * 64, "state": "persistent"}},
            "version",
            0,
            "runs 0000000000000000… with state persistent",
        ),
        (
            {"status": {"host": "rpc-1", "image": IMAGE.id, "state": "volatile"}},
            "version",
            0,
            f"runs {IMAGE.id[:16]}… with state volatile",
        ),
        ({"layers": list(LAYERS[:-1])}, "wrong_layers", 1, f"{len(LAYERS) - 1} layers, {len(LAYERS)} are the image's"),
        (
            {"layers": [*LAYERS[:-1], "other"]},
            "wrong_layers",
            1,
            f"{len(LAYERS)} layers, {len(LAYERS)} are the image's",
        ),
        (
            {"units": ["a.service", "b.service", "c.mount", "d.timer"]},
            "failed_units",
            4,
            "a.service, b.service, c.mount and 1 more",
        ),
        ({"link_mbit": 1000}, "link_shortfall_mbit", 9000, "1000 Mbit/s"),
        ({"link_mbit": -1}, "link_shortfall_mbit", 10000, "no link tells its speed"),
        ({"mounts": ["/"]}, "missing_mounts", 1, "/mnt/data"),
        ({"kernel": {"faults": 2, "last": "nvme nvme0: Abort"}}, "kernel_faults", 2, "nvme nvme0: Abort"),
        ({"clock": {"error_s": 3.5, "synchronised": False}}, "clock_synchronised", 0, ""),
        ({"clock": {"error_s": 3.5, "synchronised": False}}, "clock_offset_s", 3.5, ""),
        (
            {"ready": {"health": None, "slot": None, "lag": None, "reasons": ["JSON-RPC does not answer"]}},
            "rpc_healthy",
            0,
            "JSON-RPC does not answer",
        ),
        (
            {"ready": {"health": "behind by 42 slots", "slot": 5, "lag": None, "reasons": ["no reference answers"]}},
            "slot_lag",
            None,
            "no reference answers",
        ),
        (
            {"ready": {"health": "behind by 42 slots", "slot": 5, "lag": None, "reasons": []}},
            "rpc_healthy",
            0,
            "behind by 42 slots",
        ),
        ({"telemetry": ""}, "metrics_sent", 0, ""),
        ({"telemetry": "otelcol_exporter_send_failed_metric_points 7\n"}, "metrics_sent", 0, "7 could not be sent"),
        ({"geyser": {"slot": 0, "said": "Connection refused"}}, "geyser_slot", 0, "Connection refused"),
        ({"postgres_rows": None}, "postgres_writes", None, "postgres_rows cannot be read"),
        ({"rpc_ms": None}, "rpc_p99_ms", None, "rpc_ms cannot be read"),
    ],
)
def test_what_a_host_tells_is_a_value_with_what_stands_behind_it(settings, over, metric, value, detail) -> None:
    assert look(settings, **over)[metric] == (value, detail)


def test_disks_are_proven_by_the_last_flash_or_not_at_all(settings) -> None:
    host = make_host("rpc-1")
    assert count_unproven(settings, host) == (None, "no flash on record here has the agent's proof")
    prove(
        settings,
        "rpc-1",
        [{"serial": "A", "before": "1", "after": "1"}, {"serial": "B", "before": "1", "after": "2"}],
        1,
    )
    assert count_unproven(settings, host) == (2, "changed: B")
    assert look(settings)["unproven_disks"] == (2, "changed: B")


def test_a_silent_host_gives_samples_that_say_why_and_delays_no_other(settings) -> None:
    fleet = hosts("rpc-1", "rpc-2", "rpc-3")
    fleet.hosts["rpc-2"].is_silent = True
    found = collect(settings, fleet, rounds=3)
    assert {one.host for one in found} == set(fleet.hosts)
    silent = [one for one in found if one.host == "rpc-2"]
    assert len(silent) == 3 * len(WATCHED)
    assert {one.value for one in silent} == {None}
    assert {one.detail for one in silent} == {
        "rpc-2 cannot be reached over SSH at 192.0.2.1:22 ssh: connect: timed out"
    }
    assert all(one.value is not None for one in found if one.host == "rpc-3" and one.metric == "slot")


@pytest.mark.parametrize(
    "text", ["", "not json", '{"schema_version": 1}', '{"schema_version": 1, "parts": {}, "errors": {}}']
)
def test_nonsense_is_no_answer(settings, text) -> None:
    found = collect(settings, hosts("rpc-1"), ask=lambda _: text)
    assert {one.value for one in found} == {None}
    assert "cannot be read" in found[0].detail


def test_what_another_host_says_is_no_answer(settings) -> None:
    found = look(settings, status={"host": "rpc-9", "image": IMAGE.id, "state": "persistent"})
    assert set(found.values()) == {(None, "the host that answers calls itself rpc-9")}


def test_hosts_are_asked_side_by_side_and_no_more_than_allowed(settings) -> None:
    fleet, together = hosts(*(f"rpc-{number}" for number in range(12))), threading.Barrier(4)

    def ask(host: Host) -> str:
        # Nobody gets further until four are asked at the same time.
        together.wait(120)
        return fleet.ask(host)

    found = collect(settings, fleet, at_once=4, ask=ask)
    assert len(found) == 12 * len(WATCHED)
    assert fleet.most_at_once <= 4


def test_each_look_is_one_question_to_the_host(settings) -> None:
    fleet = hosts("rpc-1", "rpc-2")
    collect(settings, fleet, rounds=5)
    assert [host.looks for host in fleet.hosts.values()] == [5, 5]


@pytest.mark.parametrize(("clock_s", "apart"), [(4000.0, 2990), (500.0, 500), (1005.0, 0)])
@pytest.mark.parametrize("vouched", ["by a source", "by nobody"])
def test_samples_bear_the_controllers_clock_and_tell_how_far_the_hosts_is_from_it(
    settings, clock_s, apart, vouched
) -> None:
    fleet = hosts("rpc-1", clock={"error_s": 0.002, "synchronised": vouched == "by a source"})
    fleet.hosts["rpc-1"].clock_s = clock_s
    moments = iter((1000.0, 1010.0))
    found = collect(settings, fleet, clock=lambda: next(moments))
    assert {one.at for one in found} == {1010.0}
    offset = next(one for one in found if one.metric == "clock_offset_s")
    if apart and vouched == "by a source":
        # One of the two is wrong, and it may be ours.
        assert (offset.value, "a time source vouches for its own" in offset.detail) == (None, True)
    else:
        assert offset.value == max(apart, 0.002)


def test_a_caller_who_has_seen_enough_ends_it(settings) -> None:
    fleet = hosts("rpc-1", "rpc-2")
    collector = Collector(settings, ask=fleet.ask, clock=Clock(0, 1))

    async def first() -> Sample:
        stream = collector.observe([Watched(make_host(name), IMAGE) for name in fleet.hosts], interval_s=0.001)
        async for one in stream:
            await stream.aclose()
            return one
        raise AssertionError("nothing came")

    assert asyncio.run(first()).host in fleet.hosts


def test_a_fault_of_ours_is_not_taken_for_a_silent_host(settings) -> None:
    def ask(_: Host) -> str:
        raise LookupError("a fault")

    with pytest.raises(LookupError):
        collect(settings, hosts("rpc-1", "rpc-2"), ask=ask)


def soak(settings, tmp_path, fleet: Fleet, *, sick_from: int | None = None) -> Verdict:
    """Collect forty looks at a canary and two controls into a record, and judge it from there."""
    names = list(fleet.hosts)
    prove(settings, names[0], [{"serial": "LEDGER-1", "before": "a", "after": "a"}])

    def ask(host: Host) -> str:
        if sick_from is not None and host.name == names[0] and fleet.hosts[host.name].looks == sick_from:
            fleet.hosts[host.name].over["rpc_ms"] = lambda told: told | {"p99": told["p99"] * 4}
        return fleet.ask(host)

    path, clock = tmp_path / "soak.jsonl", Clock(0.0, 0.0)

    def ask_at(host: Host) -> str:
        clock.now = 1000.0 + 15 * (fleet.hosts[host.name].asked + 1)
        return ask(host)

    fleet.now = clock
    with Recorder(path) as record:
        record.begin(Run("1.2.0", {names[0]: 1000.0}, tuple(names[1:]), ()))
        # One look every 15 seconds at each host, as the clock has it. One at a time: else a look could begin after its answer.
        record.add(collect(settings, fleet, rounds=40, at_once=1, ask=ask_at, clock=clock))
    last = max(one.at for one in read_samples(path))
    return judge_run(Gates(warm_up_s=30), read_run(path), read_samples(path), last).verdict


def test_from_hosts_to_a_verdict(settings, tmp_path) -> None:
    assert soak(settings, tmp_path, hosts("canary-1", "control-1", "control-2")) is Verdict.PASS


def test_a_release_that_gets_slow_after_a_while_fails(settings, tmp_path) -> None:
    assert soak(settings, tmp_path, hosts("canary-1", "control-1", "control-2"), sick_from=12) is Verdict.FAIL


def test_a_dead_canary_is_inconclusive(settings, tmp_path) -> None:
    fleet = hosts("canary-1", "control-1", "control-2")
    fleet.hosts["canary-1"].is_silent = True
    assert soak(settings, tmp_path, fleet) is Verdict.INCONCLUSIVE
