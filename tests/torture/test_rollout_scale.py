"""A thousand simulated hosts behind fake provider APIs: caps, memory, controllers killed ten times, and Ansible beside it."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.rollout.fleet import NEW
from tests.fakes.rollout.rig import sim_rig

pytestmark = pytest.mark.torture

COUNT, DEAD_SHARE, KILLS = 1000, 50, 10
POLICY: dict[str, Any] = {
    "max_parallel": 48,
    "per_account": 20,
    "max_unavailable": {"rpc": "5%", "validator": "5%"},
    "canary_soak_s": 10,
    "judge_every_s": 20,
}
RULES = {"boot_s": 0.3, "latency_s": 0.01, "stale_s": 0.2, "calls_per_s": 10.0}
# Two in a hundred never answer.
DEAD = [f"host-{number:04}" for number in range(7, COUNT, DEAD_SHARE)]
# What a host more may cost the controller: its record, its place in plan and store, its tasks and connections while it is under way.
KIB_PER_HOST = 40


def spec_of(count: int) -> dict[str, Any]:
    dead = [name for name in DEAD if int(name.removeprefix("host-")) < count]
    return {
        "count": count,
        "policy": POLICY,
        "rules": RULES,
        "dead": dead,
        "times": 10,
        "poll_s": 0.15,
        "patience_s": 2.0,
    }


def check_caps(tally: dict[str, Any], count: int) -> None:
    most = tally["most_at_once"]
    assert most["all"] <= 48
    assert most["rpc"] <= max(count * 4 // 5 * 5 // 100, 1)
    assert most["validator"] <= max(count // 5 * 5 // 100, 1)
    assert all(most[provider] <= 20 for provider in ("latitude", "teraswitch", "cherry"))


def test_a_thousand_hosts(tmp_path: Path, record_property: Any) -> None:
    peaks = {}
    for count in (100, COUNT):
        with sim_rig(tmp_path / str(count), **spec_of(count)) as rig:
            took, end, events, tally = rig.run(), rig.ask("/end"), rig.lines(), rig.ask("/tally")
        peaks[count] = took["peak_kib"]
        print(f"{count} hosts: {took}; {tally['calls']} calls, {tally['refused']} refused, {tally['stale']} stale")
        assert took["phase"] == "DONE"
        assert took["counts"]["SKIPPED"] == len(spec_of(count)["dead"])
        assert min(tally["stale"], tally["dead"]) > 0, "a fault did not fire"
        check_caps(tally, count)
    assert tally["refused"] > 0, "no call was refused"
    per_host = (peaks[COUNT] - peaks[100]) / (COUNT - 100)
    print(f"{per_host:.1f} KiB for each host more")
    record_property("kib_per_host", per_host)
    assert per_host < KIB_PER_HOST
    with sim_rig(tmp_path / "killed", **spec_of(COUNT)) as rig:
        killed = rig.run_killed(KILLS, seed=7, events=events)
        print(f"killed {rig.kills}: {killed}")
        assert len(rig.kills) == KILLS
        assert (killed["phase"], killed["counts"]) == ("DONE", took["counts"])
        assert rig.ask("/end") == end
        assert list(end.values()).count(NEW) == COUNT - len(DEAD)
        assert set(rig.starts().values()) == {1}
        check_caps(rig.ask("/tally"), COUNT)
