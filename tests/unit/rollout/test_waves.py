"""Properties of the wave planner and of what is decided next: for any fleet and any policy."""

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash.rollout.decide import Begin, Judge, Stop, Wait, Write, next_step
from flash.rollout.members import Member
from flash.rollout.progress import ENDS, UNDER_WAY, Event, HostState, Phase, Progress
from flash.rollout.waves import CANARY, FIRST, RolloutPlan, Wave, plan_waves, render_rollout
from qtrade.manifest.rollout import RolloutPolicy
from tests.fakes.examples import sha

pytestmark = pytest.mark.unit

FEW = settings(max_examples=25, deadline=None)
ROLES = st.sampled_from(["rpc", "validator"])
STEPS = st.sets(st.integers(1, 99), max_size=4).map(
    lambda some: [{"percent": n, "soak_s": 5} for n in sorted({*some, 100})]
)


@st.composite
def members(draw: Any) -> tuple[Member, ...]:
    count = draw(st.integers(1, 40))
    found = []
    for number in range(count):
        provider = draw(st.sampled_from(["a", "b"]))
        account = f"{provider} key" if provider == "a" else ""
        partner = draw(st.sampled_from(["", f"h{(number + 1) % count:02}"])) if count > 1 else ""
        found.append(Member(f"h{number:02}", provider, draw(st.sampled_from("xy")), draw(ROLES), account, partner))
    return tuple(found)


@st.composite
def policies(draw: Any) -> RolloutPolicy:
    cap = st.one_of(st.integers(1, 9), st.sampled_from(["5%", "30%", "100%"]))
    return RolloutPolicy.model_validate(
        {
            "steps": draw(STEPS),
            "canaries_per_class": draw(st.integers(1, 3)),
            "safe_mode": draw(st.booleans()),
            "max_parallel": draw(st.integers(1, 10)),
            "per_account": draw(st.integers(1, 4)),
            "max_unavailable": draw(st.dictionaries(ROLES, cap)),
            "failure_limit": draw(st.integers(0, 3)),
            "skip_percent": draw(st.integers(0, 100)),
        }
    )


def canaries_of(waves: tuple[Wave, ...]) -> list[str]:
    return [name for wave in waves if wave.name in (FIRST, CANARY) for name in wave.hosts]


@FEW
@given(members(), policies())
def test_every_host_is_in_one_wave_and_every_class_in_the_canary(
    hosts: tuple[Member, ...], policy: RolloutPolicy
) -> None:
    waves = plan_waves(hosts, policy)
    placed = Counter(name for wave in waves for name in wave.hosts)
    assert placed == Counter(one.name for one in hosts)
    assert all(wave.hosts and wave.reason for wave in waves)
    assert (waves[0].name, len(waves[0].hosts)) == (FIRST, 1) if policy.safe_mode else waves[0].name == CANARY
    by_name = {one.name: one for one in hosts}
    per_class = Counter(by_name[name].class_name for name in canaries_of(waves))
    sizes = Counter(one.class_name for one in hosts)
    assert per_class == {kind: min(size, policy.canaries_per_class) for kind, size in sizes.items()}


@FEW
@given(members(), policies())
def test_no_wave_goes_beyond_its_share_unless_the_canary_did(hosts: tuple[Member, ...], policy: RolloutPolicy) -> None:
    waves = plan_waves(hosts, policy)
    done = len(canaries_of(waves))
    for wave in waves:
        if wave.name in (FIRST, CANARY):
            continue
        done += len(wave.hosts)
        assert done <= -(-len(hosts) * int(wave.name.rstrip("%")) // 100)
    assert done == len(hosts)


@FEW
@given(members(), policies())
def test_the_plan_does_not_depend_on_the_order_of_hosts(hosts: tuple[Member, ...], policy: RolloutPolicy) -> None:
    assert plan_waves(hosts, policy) == plan_waves(tuple(reversed(hosts)), policy)


class Walk:
    """Walks through a rollout: takes every decision, lets hosts end as `data` draws, and checks what has to hold at each step."""

    def __init__(self, plan: RolloutPlan, data: Any) -> None:
        self.plan, self.data, self.now = plan, data, 1000.0
        self.progress = Progress.at_start(plan)
        self.started: Counter[str] = Counter()
        self.was_bad = False

    def apply(self, event: Event, **fields: Any) -> None:
        self.progress.apply(event, self.now, fields)

    def go(self) -> Phase:
        for _ in range(2000):
            self.now += 1
            match next_step(self.plan, self.progress, self.now):
                case Begin(hosts, returns):
                    assert hosts
                    self.begin(hosts, returns=returns)
                case Write(event, fields):
                    self.apply(event, **fields)
                case Judge():
                    self.judge()
                case Wait(_, until):
                    if not self.end_one():
                        assert until is not None, "nobody is under way, and nothing is waited for"
                        self.now = max(self.now, until)
                case Stop():
                    return self.progress.phase
        pytest.fail("it does not end")

    def begin(self, hosts: tuple[str, ...], *, returns: bool) -> None:
        is_first = not self.progress.names(HostState.COMMITTED, HostState.RETURNED, HostState.RETURNING)
        for name in hosts:
            assert returns or not self.was_bad
            self.started[name] += not returns
            self.apply(Event.RETURNING if returns else Event.STARTED, host=name)
        policy, by_name = self.plan.policy, self.plan.by_name
        down = [by_name[name] for name in self.progress.names(*UNDER_WAY)]
        assert len(down) <= policy.max_parallel
        if policy.safe_mode and is_first and not returns:
            assert len(down) == 1
        for role, count in Counter(one.role for one in down).items():
            size = self.plan.role_sizes[role]
            assert count <= policy.cap_of(role, size)
            if not returns:
                unfit = self.progress.names(HostState.SKIPPED, HostState.FELL_BACK, HostState.STUCK)
                healthy = size - count - sum(by_name[name].role == role for name in unfit)
                assert healthy + self.plan.others.get(role, 0) >= self.plan.minimum_healthy.get(role, 0)
        accounts = Counter(one.account for one in down if one.account)
        assert all(count <= policy.per_account for count in accounts.values())
        assert not {one.partner for one in down} & {one.name for one in down}

    def end_one(self) -> bool:
        down = self.progress.names(*UNDER_WAY)
        if not down:
            return False
        name = self.data.draw(st.sampled_from(down))
        if self.progress.hosts[name].state is HostState.RETURNING:
            self.apply(self.data.draw(st.sampled_from([Event.RETURNED] * 9 + [Event.STUCK])), host=name)
        else:
            ends = [Event.COMMITTED] * 17 + [Event.SKIPPED, Event.FELL_BACK, Event.STUCK]
            self.apply(self.data.draw(st.sampled_from(ends)), host=name)
        return True

    def judge(self) -> None:
        assert self.now >= self.progress.soaking_since + self.plan.waves[self.progress.wave].soak_s
        if self.data.draw(st.integers(0, 9)):
            self.apply(Event.PASSED)
        else:
            self.was_bad = True
            self.apply(Event.FAILED, why="a gate")


@FEW
@given(members(), policies(), st.dictionaries(ROLES, st.integers(0, 3)), st.data())
def test_any_rollout_keeps_its_caps_and_ends(
    hosts: tuple[Member, ...], policy: RolloutPolicy, minimum: dict[Any, int], data: Any
) -> None:
    waves = plan_waves(hosts, policy)
    plan = RolloutPlan("staging", "demo", "2", sha("2"), hosts, waves, policy, minimum, {})
    walk = Walk(plan, data)
    phase = walk.go()
    assert phase in ENDS | {Phase.PAUSED}
    assert max(walk.started.values(), default=0) <= 1
    assert not walk.progress.names(*UNDER_WAY)
    if phase is Phase.DONE:
        assert not walk.progress.names(HostState.WAITING)
    if phase is Phase.FAILED:
        assert not walk.progress.names(HostState.COMMITTED)
        assert walk.progress.blocked


def test_the_plan_says_why() -> None:
    hosts = (Member("val-1", "a", "x", "validator"), Member("rpc-1", "a", "x", "rpc"), Member("rpc-2", "a", "x", "rpc"))
    policy = RolloutPolicy.model_validate({"windows": [{"days": ["sat"], "start": "02:00", "until": "06:00"}]})
    waves = plan_waves(hosts, policy)
    plan = RolloutPlan("production", "demo", "2", sha("2"), hosts, waves, policy, {"rpc": 1}, {})
    text = render_rollout(plan)
    assert "rollout of demo 2 to production: 3 host(s), 3 wave(s)" in text
    assert "one host alone (safe_mode); watched 10 min" in text
    assert "1 of each of 2 class(es): a/x/rpc, a/x/validator" in text
    assert "sat 02:00-06:00 UTC" in text
    assert re.search(r"stays healthy: +1 other rpc", text)
