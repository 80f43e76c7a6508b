"""What a rollout makes of real samples: each class judged by itself, and hosts that cannot be looked at."""

import asyncio
from pathlib import Path

import pytest

from flash.judge.collect import Collector
from flash.judge.record import Judgement, Verdict
from flash.rollout.eyes import ClassJudge, Eyes
from qtrade.manifest.gates import Gates
from qtrade.manifest.metrics import Metric
from tests.fakes.examples import make_image, make_settings
from tests.fakes.projects import write_project
from tests.fakes.soaking_hosts import Clock, Fleet, SoakingHost
from tests.fakes.soaks import DEPLOYED, Soak

pytestmark = pytest.mark.unit

IMAGE = make_image()
FAST = ("fast-1", "fast-2", "fast-3")
SLOW = ("slow-1", "slow-2", "slow-3")
CLASS_OF = {**dict.fromkeys((*FAST, "fast-new"), "a/fast/rpc"), **dict.fromkeys((*SLOW, "slow-new"), "a/slow/rpc")}


def slow(host: str, metric: Metric, after_s: float, value: float) -> float:
    del after_s
    return value * 3 if metric is Metric.RPC_P99_MS and host.startswith("slow") else value


def judged(canaries: tuple[str, ...], controls: tuple[str, ...]) -> Judgement:
    soak = Soak(canaries=canaries, controls=controls).changed(slow)
    judge = ClassJudge(Gates(), CLASS_OF)
    return judge(soak.samples(), canaries, controls, dict.fromkeys(canaries, DEPLOYED), soak.until)


def test_a_slow_machine_is_compared_with_machines_like_it() -> None:
    assert judged(("slow-new",), FAST + SLOW).verdict is Verdict.PASS
    as_one = Soak(canaries=("slow-new",), controls=FAST).changed(slow)
    assert as_one.judge().verdict is Verdict.FAIL


def test_a_class_without_a_control_answers_to_the_hard_gates_and_says_so() -> None:
    found = judged(("slow-new", "fast-new"), FAST)
    assert found.verdict is Verdict.PASS
    (said,) = [one for one in found.findings if one.gate == "controls"]
    assert (said.host, said.why) == ("slow-new", "no host of a/slow/rpc runs the old version: hard gates only")
    asked = {one.gate for one in found.findings if one.host == "slow-new"}
    assert "rpc_p99_ms" not in asked
    assert "slot_lag" in asked
    assert "rpc_p99_ms" in {one.gate for one in found.findings if one.host == "fast-new"}


def test_what_is_worst_in_any_class_counts() -> None:
    soak = Soak(canaries=("slow-new", "fast-new"), controls=FAST + SLOW).changed(
        slow, lambda host, metric, _, value: 2 if (host, metric) == ("fast-new", Metric.FAILED_UNITS) else value
    )
    deployed = dict.fromkeys(soak.canaries, DEPLOYED)
    found = ClassJudge(Gates(), CLASS_OF)(soak.samples(), soak.canaries, soak.controls, deployed, soak.until)
    assert found.verdict is Verdict.FAIL
    assert (found.findings[0].gate, found.findings[0].host) == ("failed_units", "fast-new")


def test_nobody_on_the_new_version_is_nothing_to_judge() -> None:
    assert judged((), FAST).verdict is Verdict.INCONCLUSIVE


def test_a_host_whose_manifest_cannot_be_read_is_silent_and_hides_no_other(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    write_project(settings)
    (settings.project / "manifests/hosts/rpc-2.yaml").write_text("schema_version: 1\nname: [\n")
    fleet = Fleet(SoakingHost("rpc-1", IMAGE.id, tuple(layer.digest for layer in IMAGE.layers), {}))
    clock = Clock(1000.0, 15)
    fleet.now = lambda: clock.now
    eyes = Eyes(settings, IMAGE, Collector(settings, ask=fleet.ask, clock=clock))
    found = asyncio.run(eyes(("rpc-1", "rpc-2"), 0.0))
    values = {(one.host, one.metric): (one.value, one.detail) for one in found}
    assert values["rpc-1", "version"][0] == 1
    assert values["rpc-2", "version"][0] is None
    assert "rpc-2.yaml" in values["rpc-2", "version"][1]
