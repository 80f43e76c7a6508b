"""Begin, take up, pause, resume, abort and undo rollouts: who may, on what, and what the store is told."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from flash.inventory import environment_named
from flash.lease import HeldHost, lease
from flash.rollout import wiring
from flash.rollout.engine import Desk, Engine
from flash.rollout.journal import PLANS, STANDINGS, RolloutJournal, journal_of, new_journal
from flash.rollout.members import find_fleet
from flash.rollout.ports import WallClock
from flash.rollout.progress import ENDS, Event, HostState, Phase, Progress
from flash.rollout.waves import RolloutPlan, plan_waves
from flash.trust import choose_version, load_allowed
from qtrade.actor import read_actor
from qtrade.errors import ConflictError, HostError, NotFound, QtradeError, Refused
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store, open_store
from qtrade.store.blocks import Block, Blocks
from qtrade.store.leases import Lease, Leases
from qtrade.store.rollouts import OrderKind, RolloutRecord, Rollouts
from qtrade.trust.attest import attest_rollout
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import verify_statements


@dataclass(frozen=True)
class Rollout:
    """A rollout with its plan, where it stands, and its journal on this machine."""

    plan: RolloutPlan
    progress: Progress
    journal: RolloutJournal


def lease_name(environment: str) -> str:
    """Return what is held while a rollout runs; no host has a name like it."""
    return f"rollout:{environment}"


def plan_rollout(settings: Settings, environment_name: str, version: str | None, recipe: str | None) -> RolloutPlan:
    """Return the plan of a new rollout. Raises `NotFound`, `TrustError`, `Refused` for a version that may not run there."""
    environment = environment_named(settings, environment_name)
    store = open_store(settings)
    fleet = find_fleet(settings, environment, recipe)
    chosen = version or choose_version(store, fleet.first, environment)
    trust = ensure_keyring(settings).trust
    image = load_allowed(store, fleet.recipe, chosen, trust=trust, environment=environment).image
    refuse_blocked(store, image.id, f"{fleet.recipe} {chosen}")
    return RolloutPlan(
        environment.name,
        fleet.recipe,
        chosen,
        image.id,
        fleet.members,
        plan_waves(fleet.members, environment.rollout),
        environment.rollout,
        dict(environment.minimum_healthy),
        fleet.others,
        layer_roles=tuple(one.role for one in image.layers),
    )


def choose_plan(settings: Settings, environment: str, version: str | None, recipe: str | None) -> RolloutPlan:
    """Return the plan of the open rollout of that version, which goes on as it was planned, else one of a new rollout."""
    found = find_rollout(settings, environment)
    if found is not None and found.progress.phase not in ENDS and version in (None, found.plan.version):
        return found.plan
    return plan_rollout(settings, environment, version, recipe)


def refuse_blocked(store: Store, image: str, what: str) -> None:
    """Raise `Refused` for an image that a rollout found bad."""
    block = Blocks(store.objects).find(image)
    if block is not None:
        raise Refused(
            f"{what} is blocked: {block.describe()}",
            resolution="roll another version out; or, where that was a false alarm, run `qtrade images unblock`",
        )


def find_rollout(settings: Settings, environment: str) -> Rollout | None:
    """Return the last rollout of an environment: from this machine's journal or, where another machine led it, from the store."""
    record = Rollouts(open_store(settings).objects).read(environment)
    if record is None:
        return None
    journal = journal_of(settings, environment, record.id)
    if journal.path.exists():
        plan, progress = journal.read()
        if progress.moved >= STANDINGS.validate_python(record.progress).moved:
            return Rollout(plan, progress, journal)
    return Rollout(PLANS.validate_python(record.plan), STANDINGS.validate_python(record.progress), journal)


def open_rollout(settings: Settings, environment: str) -> Rollout:
    """Return the rollout of an environment that has not ended. Raises `NotFound`."""
    found = find_rollout(settings, environment)
    if found is None or found.progress.phase in ENDS:
        ended = f"; the last one ended {found.progress.phase}" if found else ""
        raise NotFound(
            f"environment {environment} has no open rollout{ended}",
            resolution=f"start one with `qtrade rollout start --env {environment} --version …`",
        )
    return found


def check_startable(found: Rollout | None, plan: RolloutPlan) -> Rollout | None:
    """Return the open rollout of the same version, to be taken up, or None for a new one. Raises `Refused` for an open one of another."""
    if found is None or found.progress.phase in ENDS:
        return None
    env, before = plan.environment, found.plan
    if (before.recipe, before.version) != (plan.recipe, plan.version):
        raise Refused(
            f"the rollout of {before.recipe} {before.version} to {env} has not ended: {found.progress.phase}",
            details=found.progress.why,
            resolution=f"let it end, or run `qtrade rollout abort --env {env}`, then start this one",
        )
    if found.progress.phase is Phase.PAUSED:
        raise Refused(
            f"the rollout of {before.version} to {env} is paused: {found.progress.why}",
            resolution=f"look at `qtrade rollout status --env {env}`; then `qtrade rollout resume`, `abort` or `undo`",
        )
    return found


def start(settings: Settings, plan: RolloutPlan, reporter: Reporter, *, at_most_s: float = inf) -> Rollout:
    """Carry a rollout out, or take the open one of the same version up. Returns it as it stands when nothing is left to do.

    After `at_most_s` it pauses: a runner's job has an end.
    """
    with _held(settings, plan.environment, reporter) as held:
        last = find_rollout(settings, plan.environment)
        if last is not None and _lacks_signature(settings, last, plan):
            reporter.say(f"{plan.version} was committed to {plan.environment} already, and that was not signed")
            is_signed = _attest(settings, last, reporter)
            # Hosts that were passed over then, or are new, are brought to it by a rollout of their own.
            if is_signed and set(plan.by_name) <= set(last.progress.names(HostState.COMMITTED)):
                return last
        found = check_startable(last, plan)
        Rollouts(open_store(settings).objects).forget_order(plan.environment)
        if found is None:
            journal = new_journal(settings, plan.environment)
            journal.token = held.token
            found = Rollout(plan, journal.begin(plan, wiring.ports_for(settings, plan, journal).clock.now()), journal)
        else:
            reporter.say(f"taken up: {found.plan.version}, {found.progress.phase} in wave {found.progress.wave + 1}")
        return _carry_out(settings, found, held, reporter, at_most_s=at_most_s)


def resume(settings: Settings, environment: str, reporter: Reporter, *, at_most_s: float = inf) -> Rollout:
    """Go on with a paused rollout."""
    with _held(settings, environment, reporter) as held:
        found = open_rollout(settings, environment)
        Rollouts(open_store(settings).objects).forget_order(environment)
        first = [(Event.RESUMED, {"why": f"by {held.holder}"})] if found.progress.phase is Phase.PAUSED else []
        return _carry_out(settings, found, held, reporter, first, at_most_s=at_most_s)


def undo(settings: Settings, environment: str, reporter: Reporter, *, to: str = "") -> Rollout:
    """Take the hosts that the last rollout brought its version to back, at the same caps: to `to`, or to what each ran before."""
    with _held(settings, environment, reporter) as held:
        found = undoable(settings, environment)
        Rollouts(open_store(settings).objects).forget_order(environment)
        first = (
            []
            if found.progress.undo and found.progress.phase is Phase.RETURNING
            else [(Event.UNDO, {"to": to, "why": f"{held.holder} undid it"})]
        )
        return _carry_out(settings, found, held, reporter, first)


def undoable(settings: Settings, environment: str) -> Rollout:
    """Return the last rollout, which has hosts on its version. Raises `NotFound`, `Refused`."""
    found = find_rollout(settings, environment)
    if found is None:
        raise NotFound(
            f"environment {environment} had no rollout",
            resolution="roll single hosts back with `qtrade rollback --host …`",
        )
    on_it = found.progress.names(HostState.COMMITTED, HostState.STARTED, HostState.RETURNING)
    if not on_it:
        raise Refused(
            f"no host runs {found.plan.version} by the last rollout to {environment}, which is {found.progress.phase}",
            resolution="there is nothing to undo",
        )
    return found


def stop(settings: Settings, environment: str, kind: OrderKind, reporter: Reporter) -> Rollout:
    """Pause or abort: tell the controller that runs it, wherever that is; where none does, do it here."""
    found = open_rollout(settings, environment)
    store = open_store(settings)
    holder = holder_of(store, environment)
    who = read_actor().describe()
    if holder is not None:
        Rollouts(store.objects).order(environment, found.journal.id, kind, who)
        reporter.say(f"{kind} ordered of {holder.holder} (process {holder.pid}), which runs it")
        return found
    with _held(settings, environment, reporter) as held:
        found = open_rollout(settings, environment)
        event = Event.PAUSED if kind == "pause" else Event.ABORTING
        verb = "paused" if kind == "pause" else "aborted"
        return _carry_out(settings, found, held, reporter, [(event, {"why": f"{who} {verb} it"})])


def holder_of(store: Store, environment: str) -> Lease | None:
    """Return who runs the environment's rollout now, None where nobody does."""
    now = WallClock().now()
    found = Leases(store.objects).read(lease_name(environment))
    return found if found is not None and found.is_held(now) else None


def check_ended_well(rollout: Rollout) -> None:
    """Raise the error of a rollout that is not DONE or UNDONE."""
    plan, progress = rollout.plan, rollout.progress
    what = f"the rollout of {plan.recipe} {plan.version} to {plan.environment}"
    look = f"see `qtrade rollout status --env {plan.environment}`"
    match progress.phase:
        case Phase.FAILED:
            stuck = progress.names(HostState.STUCK)
            raise HostError(
                f"{what} failed: {progress.failure}",
                details=f"back on what they ran: {len(progress.names(HostState.RETURNED, HostState.FELL_BACK))}; "
                f"stuck: {', '.join(stuck) or 'none'}; the image is blocked",
                resolution=f"{look}; mend stuck hosts, bake another version",
            )
        case Phase.PAUSED:
            raise Refused(f"{what} is paused: {progress.why}", resolution=f"{look}; then resume, abort or undo it")
        case Phase.ABORTED:
            raise ConflictError(f"{what} was aborted: {progress.why}", resolution=f"{look}; `undo` takes hosts back")
        case _:
            return


@contextmanager
def _held(settings: Settings, environment: str, reporter: Reporter) -> Iterator[HeldHost]:
    with lease(settings, open_store(settings), lease_name(environment), reporter) as held:
        yield held


def _carry_out(
    settings: Settings,
    rollout: Rollout,
    held: HeldHost,
    reporter: Reporter,
    first: list[tuple[Event, dict[str, Any]]] | None = None,
    *,
    at_most_s: float = inf,
) -> Rollout:
    plan, progress, journal = rollout.plan, rollout.progress, rollout.journal
    journal.token = held.token
    ports = wiring.ports_for(settings, plan, journal)
    if not journal.path.exists() or journal.read()[1].moved < progress.moved:
        journal.adopt(plan, progress, ports.clock.now())
    if first:
        journal.write(progress, first, ports.clock.now())
    desk = _desk(settings, rollout, held, at_most_s)
    desk.publish(progress)
    asyncio.run(Engine(plan, progress, journal, ports, desk, reporter).run())
    if progress.phase is Phase.DONE:
        _attest(settings, rollout, reporter)
    return rollout


def _lacks_signature(settings: Settings, last: Rollout, plan: RolloutPlan) -> bool:
    """Say whether that rollout of the same image was committed, and its controller killed before it signed so."""
    if last.progress.phase is not Phase.DONE or last.plan.image != plan.image:
        return False
    if not last.progress.names(HostState.COMMITTED):
        return False
    envelopes = open_store(settings).attestations(plan.image)
    signed = verify_statements(plan.image, envelopes, ensure_keyring(settings).trust)
    return last.journal.id not in {one.rollout for one in signed.rollouts}


def _attest(settings: Settings, rollout: Rollout, reporter: Reporter) -> bool:
    """Sign that the rollout was committed, which a promotion to production asks for, and say whether that could be.

    The fleet runs it either way.
    """
    plan, progress = rollout.plan, rollout.progress
    hosts = progress.names(HostState.COMMITTED)
    try:
        attest_rollout(
            open_store(settings),
            ensure_keyring(settings),
            plan.image,
            environment=plan.environment,
            version=plan.version,
            hosts=tuple(sorted(hosts)),
            soak_s=int(progress.moved - max(progress.hosts[name].at for name in hosts)),
            rollout=rollout.journal.id,
        )
    except QtradeError as error:
        reporter.say(
            f"warning: that {plan.version} was committed to {plan.environment} could not be signed: {error.brief}"
        )
        return False
    return True


def _desk(settings: Settings, rollout: Rollout, held: HeldHost, at_most_s: float) -> Desk:
    store = open_store(settings)
    rollouts, plan, name = Rollouts(store.objects), rollout.plan, rollout.journal.id

    def publish(progress: Progress) -> None:
        held.check()
        rollouts.publish(record_of(plan, progress, name, held))

    until = time.monotonic() + at_most_s

    def order() -> tuple[str, str] | None:
        if time.monotonic() > until:
            return "pause", f"the limit of {at_most_s:.0f} s (--at-most)"
        found = rollouts.ordered(plan.environment, name)
        return (found.kind, found.by) if found else None

    def block(progress: Progress) -> None:
        now = WallClock().now()
        Blocks(store.objects).add(
            Block(plan.image, plan.recipe, plan.version, plan.environment, name, progress.failure, held.holder, now)
        )

    return Desk(check=held.check, publish=publish, order=order, block=block)


def record_of(plan: RolloutPlan, progress: Progress, name: str, held: HeldHost) -> RolloutRecord:
    """Return what the store is told."""
    return RolloutRecord(
        name,
        plan.environment,
        plan.recipe,
        plan.version,
        plan.image,
        progress.phase,
        held.holder,
        held.token,
        WallClock().now(),
        PLANS.dump_python(plan, mode="json"),
        asdict(progress),
    )
