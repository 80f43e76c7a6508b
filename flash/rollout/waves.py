"""Hosts and a policy in, waves with reasons out. Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from flash.rollout.members import Member, by_class
from qtrade.look import Row, render_plan, say_seconds
from qtrade.manifest.base import HostRole
from qtrade.manifest.rollout import RolloutPolicy

FIRST = "first"
CANARY = "canary"
_SHOWN = 6


@dataclass(frozen=True)
class Wave:
    """Hosts that are started together, as far as the caps allow; `soak_s` is how long they are watched before the next wave."""

    name: str
    hosts: tuple[str, ...]
    soak_s: int
    reason: str


@dataclass(frozen=True)
class RolloutPlan:
    """What a rollout does. `version` of `recipe` is `image`; `others` counts the environment's hosts of other recipes, by host role."""

    environment: str
    recipe: str
    version: str
    image: str
    members: tuple[Member, ...]
    waves: tuple[Wave, ...]
    policy: RolloutPolicy
    minimum_healthy: dict[HostRole, int]
    others: dict[HostRole, int]
    layer_roles: tuple[str, ...] = ()  # the Ansible roles of the image: which gates count

    @cached_property
    def by_name(self) -> dict[str, Member]:
        """Return the hosts by their names."""
        return {one.name: one for one in self.members}

    @cached_property
    def role_sizes(self) -> Counter[HostRole]:
        """Return how many hosts of each role there are."""
        return Counter(one.role for one in self.members)

    @property
    def digest(self) -> str:
        """Return what tells this plan from others: a rollout that was begun goes on by the plan that it began with."""
        fields = {**asdict(self), "policy": self.policy.model_dump(mode="json")}
        if not self.layer_roles:  # begun by a qtrade that did not note them
            del fields["layer_roles"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def plan_waves(members: Sequence[Member], policy: RolloutPolicy) -> tuple[Wave, ...]:
    """Return the waves: every host is in exactly one, no wave is empty, and first and canary have hosts of every class."""
    order = _mixed(members)
    classes = by_class(members)
    chosen = {one.name for own in classes.values() for one in own[: policy.canaries_per_class]}
    canaries = tuple(one.name for one in order if one.name in chosen)
    alone = canaries[:1] if policy.safe_mode else ()
    reason = f"{policy.canaries_per_class} of each of {len(classes)} class(es): {_few(classes)}"
    waves = [Wave(FIRST, alone, policy.first_soak_s, "one host alone (safe_mode)")] if alone else []
    if canaries[len(alone) :]:
        waves.append(Wave(CANARY, canaries[len(alone) :], policy.canary_soak_s, reason))
    rest = [one.name for one in order if one.name not in chosen]
    done = len(canaries)
    for step in policy.steps:
        # Rounded up, so that small fleets do not have one wave with nearly all.
        wanted = -(-len(order) * step.percent // 100)
        hosts, rest = rest[: max(wanted - done, 0)], rest[max(wanted - done, 0) :]
        done += len(hosts)
        if hosts:
            reason = f"{done} of {len(order)} hosts run it then"
            waves.append(Wave(f"{step.percent}%", tuple(hosts), step.soak_s, reason))
    return tuple(waves)


def render_rollout(plan: RolloutPlan, *, width: int | None = None) -> str:
    """Return the plan for people."""
    policy = plan.policy
    unavailable = ", ".join(f"{policy.cap_of(role, size)} {role}" for role, size in sorted(plan.role_sizes.items()))
    facts = [
        ("image", plan.image),
        ("at once", f"{policy.max_parallel} in all, {unavailable}, {policy.per_account} of one provider account"),
        (
            "stays healthy",
            ", ".join(f"{count} other {role}" for role, count in sorted(plan.minimum_healthy.items())) or "-",
        ),
        ("windows", "; ".join(_say_window(policy)) or "any time"),
        ("fails at", f"a gate, or {policy.failure_limit + 1} host(s) that fall back or get stuck"),
        ("pauses at", f"missing data, or over {policy.skip_percent}% of hosts passed over"),
        ("if it fails", "no new starts; hosts under way end; those on the new version roll back; the image is blocked"),
    ]
    rows = [
        Row(f"{number} {wave.name}", f"{len(wave.hosts)}: {_few(wave.hosts)}", _why(wave), float(wave.soak_s) or None)
        for number, wave in enumerate(plan.waves, start=1)
    ]
    title = f"rollout of {plan.recipe} {plan.version} to {plan.environment}: {len(plan.members)} host(s), {len(plan.waves)} wave(s)"
    return render_plan(title, rows, facts=facts, width=width)


def _why(wave: Wave) -> str:
    soak = f"watched {say_seconds(wave.soak_s)}" if wave.soak_s else "judged at once"
    return f"{wave.reason}; {soak}"


def _say_window(policy: RolloutPolicy) -> Iterator[str]:
    for window in policy.windows:
        yield f"{','.join(window.days)} {window.start}-{window.until} {window.time_zone}"


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _mixed(members: Sequence[Member]) -> list[Member]:
    """Return the members so that every stretch has of each class its share: the last of a small class comes last, too."""
    placed = (
        ((number + 0.5) / len(own), name, member)
        for name, own in by_class(members).items()
        for number, member in enumerate(own)
    )
    return [member for _, _, member in sorted(placed, key=lambda one: (one[0], one[1], one[2].name))]
