"""Sixty simulated hosts through the engine, with controllers killed on the way, and against a bad version."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flash.rollout.hands import CommandHands
from flash.rollout.ports import Outcome
from flash.rollout.progress import Event
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project
from tests.fakes.rollout.fleet import NEW, OLD, make_members, make_plan
from tests.fakes.rollout.rig import sim_rig

pytestmark = pytest.mark.integration

COUNT = 60
POLICY: dict[str, Any] = {
    "max_parallel": 12,
    "per_account": 6,
    "max_unavailable": {"rpc": "20%", "validator": 2},
    "canary_soak_s": 2,
}
RULES = {"boot_s": 0.1, "stale_s": 0.05, "calls_per_s": 10.0}
SPEC: dict[str, Any] = {"count": COUNT, "policy": POLICY, "rules": RULES, "dead": ["host-0031"], "times": 10}


def check_caps(tally: dict[str, Any]) -> None:
    most = tally["most_at_once"]
    assert most["all"] <= 12
    assert most["rpc"] <= 9
    assert most["validator"] <= 2
    assert all(most[provider] <= 6 for provider in ("latitude", "teraswitch", "cherry"))


def test_a_killed_controller_ends_as_one_that_lived(tmp_path: Path) -> None:
    with sim_rig(tmp_path / "plain", **SPEC) as rig:
        lived, end, events = rig.run(), rig.ask("/end"), rig.lines()
        tally = rig.ask("/tally")
    assert lived["phase"] == "DONE"
    assert lived["counts"] == {"COMMITTED": COUNT - 1, "SKIPPED": 1}
    assert min(tally["refused"], tally["stale"], tally["dead"]) > 0, "a fault did not fire"
    check_caps(tally)
    with sim_rig(tmp_path / "killed", **SPEC) as rig:
        killed = rig.run_killed(4, seed=1, events=events)
        assert len(rig.kills) == 4
        assert (killed["phase"], killed["counts"]) == (lived["phase"], lived["counts"])
        assert rig.ask("/end") == end
        assert len(rig.journals()) == 1
        assert set(rig.starts().values()) == {1}
        check_caps(rig.ask("/tally"))


def test_a_bad_version_reaches_canaries_only_though_the_controller_is_killed(tmp_path: Path) -> None:
    # The first host is not of that class: it passes, and the other canaries are started.
    fault = {"kind": "load", "after_s": 0.5, "class_name": "cherry/epyc-9575/rpc"}
    canaries = {name for wave in make_plan(make_members(COUNT), **POLICY).waves[:2] for name in wave.hosts}
    with sim_rig(tmp_path / "bad", **{**SPEC, "dead": [], "fault": fault}) as rig:
        # Started and committed canaries, a failure, and the way back are twice as many lines.
        failed = rig.run_killed(3, seed=2, events=2 * len(canaries))
        tally = rig.ask("/tally")
    assert failed["phase"] == "FAILED"
    assert "gate errors" in failed["failure"]
    assert set(tally["exposed"]) <= canaries
    assert tally["versions"] == {OLD: COUNT}
    assert NEW not in tally["versions"]
    assert len(rig.kills) == 3


def test_the_real_command_says_why_it_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    write_project(settings)
    hands = CommandHands(settings, make_plan(make_members(1)), tmp_path / "logs")
    monkeypatch.setattr(hands, "_status", lambda _: None)
    outcome = asyncio.run(hands.deploy("rpc-1", 0.0))
    assert outcome == Outcome(Event.SKIPPED, f"the store has no version {NEW} of demo")
    assert '"error": "NotFound"' in (tmp_path / "logs/rpc-1.log").read_text()
