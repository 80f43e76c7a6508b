"""A simulated fleet: hosts that take their time to boot, dead ones, provider APIs with limits and stale answers, bad releases."""

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from flash.rollout.members import Member
from flash.rollout.waves import RolloutPlan, plan_waves
from qtrade.manifest.rollout import RolloutPolicy
from tests.fakes.examples import sha

OLD, NEW = "0.1.0", "0.2.0"
_PROVIDERS = ("latitude", "teraswitch", "cherry")
_HARDWARE = ("epyc-9354", "epyc-9575")
_RARE = "xeon-6780"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a version: it does not boot (`boot`), or is sick under load after a while (`load`), on classes whose name
    holds `class_name` or on all."""

    version: str = NEW
    kind: str = "load"
    after_s: float = 0.0
    class_name: str = ""


@dataclass(frozen=True)
class Rules:
    """How the world behaves; seconds are real ones. `calls_per_s` is what each provider's API takes before it answers 429."""

    boot_s: float = 0.05
    latency_s: float = 0.0
    stale_s: float = 0.0
    calls_per_s: float = 0.0
    dead: tuple[str, ...] = ()
    fault: Fault | None = None


@dataclass
class SimHost:
    """One host: what it runs since when, and the job that is at work on it."""

    name: str
    provider: str
    class_name: str
    version: str = OLD
    since: float = 0.0
    job: str = ""
    target: str = ""
    ready: float = 0.0
    fell_back: str = ""
    boots: int = 0


@dataclass
class Tally:
    """What happened, so that tests can hold that the faults fired and the caps held."""

    calls: int = 0
    refused: int = 0
    stale: int = 0
    dead: int = 0
    most_at_once: dict[str, int] = field(default_factory=dict)
    exposed: set[str] = field(default_factory=set)


class TooMany(Exception):
    """The provider takes no more calls now."""


class Fleet:
    """The hosts, and the verbs of their providers' API. Threads may call at once."""

    def __init__(self, members: tuple[Member, ...], rules: Rules) -> None:
        self.rules = rules
        self.hosts = {one.name: SimHost(one.name, one.provider, one.class_name) for one in members}
        self.roles = {one.name: one.role for one in members}
        self.tally = Tally()
        self._turn = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def begin(self, name: str, version: str, job: str) -> None:
        """Order a host to boot a version. The same job again changes nothing. Raises `TooMany`."""
        with self._turn:
            host = self._called(name)
            if host.job == job:
                return
            host.job, host.target, host.fell_back = job, version, ""
            host.ready = time.time() + self.rules.boot_s
            host.boots += 1
            self._count_down(name)

    def status(self, name: str) -> dict[str, object]:
        """Return what the provider says: the version that runs, and the job that brought it, perhaps a stale one. Raises `TooMany`."""
        with self._turn:
            host = self._called(name)
            if name in self.rules.dead:
                self.tally.dead += 1
                return {"answers": False}
            self._settle(host)
            if host.job and time.time() < host.ready + self.rules.stale_s:
                self.tally.stale += time.time() >= host.ready
                return {"answers": True, "version": OLD, "job": "", "fell_back": ""}
            return {"answers": True, "version": host.version, "job": host.job, "fell_back": host.fell_back}

    def errors(self, name: str) -> float | None:
        """Return how many errors a host's service gives under load, None for a silent host."""
        with self._turn:
            host = self.hosts[name]
            self._settle(host)
            if name in self.rules.dead:
                return None
            fault = self.rules.fault
            sick = fault is not None and fault.kind == "load" and self._is_hit(host, fault, host.version)
            return 7.0 if sick and fault is not None and time.time() >= host.since + fault.after_s else 0.0

    def versions(self) -> Counter[str]:
        """Return how many hosts run each version."""
        with self._turn:
            for host in self.hosts.values():
                self._settle(host)
            return Counter(host.version for host in self.hosts.values())

    def end_state(self) -> dict[str, str]:
        """Return what each host runs."""
        with self._turn:
            return {name: host.version for name, host in self.hosts.items()}

    def _called(self, name: str) -> SimHost:
        host, limit = self.hosts[name], self.rules.calls_per_s
        self.tally.calls += 1
        if limit:
            left, at = self._buckets.get(host.provider, (limit, time.monotonic()))
            left = min(limit, left + (time.monotonic() - at) * limit)
            if left < 1:
                self.tally.refused += 1
                self._buckets[host.provider] = (left, time.monotonic())
                raise TooMany
            self._buckets[host.provider] = (left - 1, time.monotonic())
        return host

    def _settle(self, host: SimHost) -> None:
        """Let a host that has booted by now run what it was told."""
        if not host.target or time.time() < host.ready or host.name in self.rules.dead:
            return
        fault = self.rules.fault
        if host.target == NEW:
            self.tally.exposed.add(host.name)
        if fault is not None and fault.kind == "boot" and self._is_hit(host, fault, host.target):
            host.fell_back = "it did not become healthy"
        else:
            host.version, host.since = host.target, host.ready
        host.target = ""

    def _is_hit(self, host: SimHost, fault: Fault, version: str) -> bool:
        return version == fault.version and fault.class_name in host.class_name

    def _count_down(self, name: str) -> None:
        down = [one for one in self.hosts.values() if one.target and time.time() < one.ready]
        for key in ("all", self.roles[name], self.hosts[name].provider):
            own = sum(key in ("all", self.roles[one.name], one.provider) for one in down)
            self.tally.most_at_once[key] = max(self.tally.most_at_once.get(key, 0), own)


def make_members(count: int, *, rare: int = 0) -> tuple[Member, ...]:
    """Return hosts at three providers, of two hardware classes, four RPC nodes to each validator; one in `rare` is of a third class."""
    found = []
    for number in range(count):
        provider = _PROVIDERS[number % 3]
        role = "validator" if number % 5 == 4 else "rpc"
        hardware = _RARE if rare and number % rare == rare - 1 else _HARDWARE[number % 2]
        found.append(Member(f"host-{number:04}", provider, hardware, role, f"{provider} env:TOKEN"))
    return tuple(found)


def make_plan(members: tuple[Member, ...], **policy: object) -> RolloutPlan:
    """Return the plan of a rollout of the new version."""
    rules = RolloutPolicy.model_validate(
        {"first_soak_s": 0, "canary_soak_s": 0, "steps": STEPS, "judge_every_s": 1, **policy}
    )
    waves = plan_waves(members, rules)
    return RolloutPlan("staging", "demo", NEW, sha(NEW), members, waves, rules, {}, {}, layer_roles=("agave",))


STEPS = [{"percent": share, "soak_s": 0} for share in (10, 25, 50, 100)]


def describe(fleet: Fleet) -> dict[str, object]:
    """Return the tally as a document."""
    return {**asdict(fleet.tally), "exposed": sorted(fleet.tally.exposed), "versions": dict(fleet.versions())}
