"""A rollout on a simulated fleet in this process: good, bad, doubtful, paused, aborted and undone."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flash.judge.record import Judgement, Sample, Verdict
from flash.judge.recording import read_run, read_samples
from flash.lease import HeldHost
from flash.rollout import control, wiring
from flash.rollout.ports import Outcome, Ports
from flash.rollout.progress import HostState, Phase
from qtrade.errors import ConflictError, HostError, Refused
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.blocks import Blocks
from qtrade.store.leases import LeaseLost
from qtrade.store.rollouts import Rollouts
from tests.fakes.examples import make_settings
from tests.fakes.reporter import RecordingReporter
from tests.fakes.rollout.fleet import NEW, OLD, Fault, Fleet, Rules, make_members, make_plan
from tests.fakes.rollout.ports import DirectApi, SimHands, sim_ports

pytestmark = pytest.mark.unit

CAPS = {"max_parallel": 8, "per_account": 4, "max_unavailable": {"rpc": 6, "validator": 2}}


class Rig:
    """A fleet, and rollouts on it as by one command after another."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.monkeypatch = settings, monkeypatch
        self.reporter = RecordingReporter()
        self.fleet = Fleet((), Rules())

    def have(self, count: int, rules: Rules = Rules(), *, times: float = 50, **policy: Any) -> None:  # noqa: B008
        members = make_members(count)
        self.plan = make_plan(members, **{**CAPS, **policy})
        self.fleet = Fleet(members, rules)
        self.use(sim_ports(self.fleet, times=times))

    def use(self, ports: Ports) -> None:
        self.ports = ports
        self.monkeypatch.setattr(wiring, "ports_for", lambda *_: ports)

    def start(self) -> control.Rollout:
        return control.start(self.settings, self.plan, self.reporter)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(make_settings(tmp_path), monkeypatch)


def test_a_good_version_reaches_every_host_under_the_caps(rig: Rig) -> None:
    rig.have(40)
    done = rig.start()
    assert done.progress.phase is Phase.DONE
    assert rig.fleet.versions() == {NEW: 40}
    assert all(host.boots == 1 for host in rig.fleet.hosts.values())
    most = rig.fleet.tally.most_at_once
    assert 2 <= most["all"] <= 8
    assert most["validator"] <= 2
    assert all(most[provider] <= 4 for provider in ("latitude", "teraswitch", "cherry"))


def test_a_version_that_is_sick_under_load_reaches_the_canaries_only(rig: Rig) -> None:
    rig.have(40, Rules(fault=Fault(after_s=0.05)), first_soak_s=20)
    failed = rig.start()
    assert failed.progress.phase is Phase.FAILED
    assert rig.fleet.tally.exposed == set(failed.plan.waves[0].hosts), "the first host alone is watched first"
    assert rig.fleet.versions() == {OLD: 40}
    assert "gate errors on host-" in failed.progress.failure
    assert "errors 7.0" in failed.progress.failure
    block = Blocks(open_store(rig.settings).objects).find(failed.plan.image)
    assert block is not None
    assert block.reason == failed.progress.failure
    with pytest.raises(HostError, match="failed: gate errors"):
        control.check_ended_well(failed)


def test_a_version_that_is_sick_on_one_class_only_is_found_by_its_canary(rig: Rig) -> None:
    rig.have(60, Rules(fault=Fault(class_name="cherry/epyc-9575/rpc")), canary_soak_s=5)
    failed = rig.start()
    assert failed.progress.phase is Phase.FAILED
    assert rig.fleet.tally.exposed <= {name for wave in failed.plan.waves[:2] for name in wave.hosts}
    assert rig.fleet.versions() == {OLD: 60}


def test_a_version_that_does_not_boot_stops_at_the_first_host(rig: Rig) -> None:
    rig.have(30, Rules(fault=Fault(kind="boot")))
    failed = rig.start()
    assert failed.progress.phase is Phase.FAILED
    assert rig.fleet.tally.exposed == {failed.plan.waves[0].hosts[0]}
    assert rig.fleet.versions() == {OLD: 30}


def test_dead_hosts_are_passed_over_and_a_dead_canary_is_replaced(rig: Rig) -> None:
    members = make_members(60)
    dead = make_plan(members).waves[1].hosts[3]
    rig.have(60, Rules(dead=(dead, "host-0040")))
    done = rig.start()
    assert done.progress.phase is Phase.DONE
    assert sorted(done.progress.names(HostState.SKIPPED)) == sorted((dead, "host-0040"))
    assert rig.fleet.tally.dead > 0
    assert len([one for one in done.progress.hosts.values() if one.wave == 1]) == len(done.plan.waves[1].hosts) + 1


def test_a_dead_first_host_is_replaced(rig: Rig) -> None:
    first = make_plan(make_members(40)).waves[0].hosts[0]
    rig.have(40, Rules(dead=(first,)))
    done = rig.start()
    assert done.progress.phase is Phase.DONE
    assert done.progress.names(HostState.SKIPPED) == [first]
    assert len(done.progress.names(HostState.COMMITTED, wave=0)) == 1


def test_too_many_dead_hosts_pause(rig: Rig) -> None:
    rig.have(30, Rules(dead=tuple(f"host-{number:04}" for number in range(0, 30, 3))))
    paused = rig.start()
    assert paused.progress.phase is Phase.PAUSED
    assert "passed over, more than 5%" in paused.progress.why
    assert paused.progress.names(HostState.STARTED) == []
    with pytest.raises(Refused, match="is paused"):
        rig.start()


def test_missing_data_pause_and_resume_goes_on(rig: Rig) -> None:
    rig.have(20)

    async def blind(hosts: Sequence[str], since: float) -> Sequence[Sample]:
        return ()

    seeing = rig.ports
    rig.use(Ports(seeing.hands, blind, seeing.judge, seeing.clock))
    paused = rig.start()
    assert paused.progress.phase is Phase.PAUSED
    assert "the judge cannot tell: gate errors on host-" in paused.progress.why
    assert rig.fleet.versions()[NEW] == len(paused.plan.waves[0].hosts)
    rig.use(seeing)
    done = control.resume(rig.settings, "staging", rig.reporter)
    assert done.progress.phase is Phase.DONE
    assert rig.fleet.versions() == {NEW: 20}


def test_an_order_from_elsewhere_pauses_and_another_aborts(rig: Rig) -> None:
    rig.have(30, Rules(boot_s=0.1), first_soak_s=3600)
    rollouts = Rollouts(open_store(rig.settings).objects)
    seeing = rig.ports

    def order(*given: Any) -> Judgement:
        record = rollouts.read("staging")
        assert record is not None
        rollouts.order("staging", record.id, "pause", "somebody@elsewhere")
        return seeing.judge(*given)

    rig.use(Ports(seeing.hands, seeing.observe, order, seeing.clock))
    paused = rig.start()
    assert paused.progress.why == "somebody@elsewhere paused it"
    assert paused.progress.names(HostState.STARTED) == []
    aborted = control.stop(rig.settings, "staging", "abort", rig.reporter)
    assert aborted.progress.phase is Phase.ABORTED
    with pytest.raises(ConflictError, match="was aborted"):
        control.check_ended_well(aborted)


def test_undo_takes_every_host_back(rig: Rig) -> None:
    rig.have(20)
    rig.start()
    undone = control.undo(rig.settings, "staging", rig.reporter)
    assert undone.progress.phase is Phase.UNDONE
    assert rig.fleet.versions() == {OLD: 20}
    assert rig.fleet.tally.most_at_once["validator"] <= 2
    with pytest.raises(Refused, match="no host runs"):
        control.undo(rig.settings, "staging", rig.reporter)


def test_another_machine_goes_on_from_the_store(rig: Rig, tmp_path: Path) -> None:
    rig.have(20)
    seeing = rig.ports
    rig.use(Ports(seeing.hands, seeing.observe, lambda *_: Judgement(Verdict.INCONCLUSIVE), seeing.clock))
    assert rig.start().progress.phase is Phase.PAUSED
    rig.use(seeing)
    elsewhere = Settings(project=rig.settings.project, state_dir=tmp_path / "elsewhere", store=rig.settings.store)
    done = control.resume(elsewhere, "staging", rig.reporter)
    assert done.progress.phase is Phase.DONE
    assert rig.fleet.versions() == {NEW: 20}
    assert all(host.boots == 1 for host in rig.fleet.hosts.values())
    assert control.find_rollout(rig.settings, "staging").progress.phase is Phase.DONE


def test_a_rollout_of_another_version_waits(rig: Rig) -> None:
    rig.have(20)
    seeing = rig.ports
    rig.use(Ports(seeing.hands, seeing.observe, lambda *_: Judgement(Verdict.INCONCLUSIVE), seeing.clock))
    rig.start()
    rig.plan = replace(rig.plan, version="0.3.0")
    with pytest.raises(Refused, match=r"of demo 0.2.0 to staging has not ended: PAUSED"):
        rig.start()


def test_samples_are_a_record_for_each_wave_that_the_judge_reads_again(rig: Rig) -> None:
    rig.have(20)
    done = rig.start()
    files = sorted(done.journal.samples.glob("*.jsonl"))
    assert [path.name for path in files] == [f"{number:03}.jsonl" for number in range(len(done.plan.waves))]
    for path in files:
        assert (read_run(path).version, read_run(path).roles) == (done.plan.version, ("agave",))
    assert next(read_samples(files[0])).metric == "errors"


def test_memory_does_not_grow_while_a_wave_is_watched(rig: Rig) -> None:
    rig.have(20, Rules(boot_s=0.01), times=500, first_soak_s=200)
    seeing, held = rig.ports, []

    def measured(*given: Any) -> Judgement:
        held.append(tracemalloc.get_traced_memory()[0])
        return seeing.judge(*given)

    rig.use(Ports(seeing.hands, seeing.observe, measured, seeing.clock))
    tracemalloc.start()
    try:
        assert rig.start().progress.phase is Phase.DONE
    finally:
        tracemalloc.stop()
    first = held[: len(held) // 2]
    assert len(held) > 15, "it was not watched often enough to say anything"
    assert held[len(first) + 5] - first[5] < 200_000


def test_who_lost_the_environment_starts_nothing_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.have(20)
    began = []

    class Lost(SimHands):
        async def deploy(self, host: str, since: float) -> Outcome:
            began.append(host)
            monkeypatch.setattr(HeldHost, "check", lose)
            return await super().deploy(host, since)

    def lose(_: HeldHost) -> None:
        raise LeaseLost("the lease of rollout:staging is lost")

    seeing = rig.ports
    rig.use(Ports(Lost(DirectApi(rig.fleet)), seeing.observe, seeing.judge, seeing.clock))
    with pytest.raises(LeaseLost):
        rig.start()
    assert len(began) == 1
    monkeypatch.undo()
    monkeypatch.setattr(wiring, "ports_for", lambda *_: seeing)
    done = rig.start()
    assert done.progress.phase is Phase.DONE
    assert rig.fleet.versions() == {NEW: 20}
    assert all(host.boots == 1 for host in rig.fleet.hosts.values())


def test_a_host_that_takes_too_long_is_given_up_and_needs_a_person(rig: Rig) -> None:
    rig.have(20, Rules(boot_s=30), times=600, host_deadline_s=60)
    failed = rig.start()
    first = failed.plan.waves[0].hosts[0]
    assert failed.progress.phase is Phase.FAILED
    assert failed.progress.names(HostState.STUCK) == [first]
    assert "it took longer than 60 s" in failed.progress.failure
    assert rig.ports.hands.given_up == first


def test_what_is_recorded_is_not_asked_for_again(rig: Rig) -> None:
    rig.have(20, Rules(boot_s=0.01), first_soak_s=20)
    seeing, asked = rig.ports, []

    async def observe(hosts: Sequence[str], since: float) -> Sequence[Sample]:
        asked.append(since)
        return await seeing.observe(hosts, since)

    rig.use(Ports(seeing.hands, observe, seeing.judge, seeing.clock))
    done = rig.start()
    first = done.progress.hosts[done.plan.waves[0].hosts[0]]
    assert asked[0] == pytest.approx(first.at)
    assert len(asked) > 3
    assert all(earlier <= later for earlier, later in pairwise(asked[:4]))
    assert asked[3] > asked[0]
