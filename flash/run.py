"""The one loop that runs a flash: it numbers, times, journals, resumes and falls back. Steps never print or journal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from flash.availability import demand_of, require_available
from flash.config import render_bundle
from flash.console import captured
from flash.context import ADOPT_ANY, Evidence, FlashContext, Reimage
from flash.deploys import recorded_deploy
from flash.doors import Steps
from flash.doors.order import next_door
from flash.doors.table import steps_for
from flash.ending import abort as stop
from flash.ending import fail, give_up
from flash.identity.guard import refuse_holder
from flash.inventory import check_allowed, check_alone, load_environment, load_host
from flash.journal import Journal, latest
from flash.lease import lease
from flash.monitors.mute import muted
from flash.plan import FlashPlan, config_digest, plan_flash
from flash.provider_lock import lock_again
from flash.readiness import ready_within_s
from flash.secrets import resolve_secrets
from flash.ssh import target_for
from flash.states import ENDS, State, check_move, sequence
from flash.trust import choose_version, load_allowed
from qtrade.errors import HostError, NotFound, QtradeError, Refused, UsageError, choose_from
from qtrade.manifest import Host
from qtrade.manifest.driver import Door
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.history import Ending, Kind, Outcome
from qtrade.store.leases import LeaseLost, Leases
from qtrade.trust.keyring import ensure_keyring

# A flash that stops here is taken up earlier: what the agent was told died with the controller.
_AGENT_STATES = (State.STAGING, State.WRITING, State.VERIFIED)
# Through the installer also here: whether it has begun, and what it has written since, is not in the journal.
_UNSURE = (State.PREFLIGHT, State.DRAINED, *_AGENT_STATES)
# Where it is asked whether the host may go down: as early as can be, and again right before it does.
_GOES_DOWN = (State.PREFLIGHT, State.DRAINED)


@dataclass(frozen=True)
class FlashResult:
    """How a flash ended."""

    host: str
    version: str
    image: str
    state: State
    journal: str
    evidence: Evidence


def prepare(  # noqa: PLR0913 - what a flash may be asked for
    settings: Settings,
    host_name: str,
    version: str | None,
    reporter: Reporter,
    *,
    door: Door | None = None,
    allow_older: bool = False,
    reimage: Reimage = Reimage(),  # noqa: B008 - frozen
) -> tuple[FlashContext, FlashPlan]:
    """Check everything that needs no host, and return the flash with its plan. Raises the errors of the checks."""
    host = load_host(settings, host_name)
    check_alone(settings, host)
    environment = load_environment(settings, host)
    store = open_store(settings)
    chosen = version or choose_version(store, host, environment)
    trust = ensure_keyring(settings).trust
    image = load_allowed(store, host.recipe, chosen, trust=trust, environment=environment)
    check_allowed(host, environment, image.image)
    bundle = render_bundle(host, environment, image.image)
    target_for(settings, host)
    resolve_secrets(settings, host, image.image)
    journal = _new_journal(settings, host)
    if host.data_policy == "disposable":
        reimage = replace(reimage, adopt=ADOPT_ANY)
    context = FlashContext(settings, host, environment, image, store, bundle, reporter, journal, allow_older, reimage)
    return context, _plan(context, door or _choose_door(context))


def _plan(context: FlashContext, door: Door) -> FlashPlan:
    host, image = context.host, context.image.image
    return plan_flash(
        host,
        image,
        door,
        config=config_digest(host, context.bundle, context.reimage),
        reimage=context.reimage,
        ready_within_s=ready_within_s(host, context.environment, image),
        needs=demand_of(host, context.environment).describe(),
    )


def prepare_open(settings: Settings, host_name: str, reporter: Reporter) -> tuple[FlashContext, FlashPlan]:
    """Return the open flash of a host, with its own version and door. Raises `NotFound` when there is none, and as `prepare`."""
    before = latest(_folder(settings, host_name))
    if before is None or not before.is_open:
        raise NotFound(f"{host_name} has no open flash", resolution="start one with `qtrade flash --version …`")
    reporter.say(f"open: {before.evidence('version')} through {before.evidence('door')}, stands at {before.state}")
    context, plan = prepare(
        settings,
        host_name,
        before.evidence("version"),
        reporter,
        door=Door(before.evidence("door")),
        allow_older=bool(before.evidence("allow_older")),
        reimage=Reimage(**(before.evidence("reimage") or {})),
    )
    context.journal = before
    return context, plan


def check_same(context: FlashContext, plan: FlashPlan) -> None:
    """Raise `Refused` when the open flash of `prepare_open` was planned for something else than what stands in the manifests now."""
    if context.journal.evidence("plan") != plan.digest:
        raise Refused(
            f"the manifest or config of {plan.host} has changed since its flash began",
            details=f"it stands at {context.journal.state}",
            resolution=f"undo the change; or abort it (--abort), or begin anew with --version {plan.version}",
        )


def parse_door(name: str | None) -> Door | None:
    """Return the door of that name, None for none. Raises `UsageError`."""
    try:
        return Door(name) if name else None
    except ValueError as error:
        raise UsageError(f"there is no door {name}", resolution=choose_from(str(name), Door)) from error


def parse_until(name: str | None) -> State:
    """Return the state after which to stop. Raises `UsageError`."""
    names = [state for state in State if state not in ENDS or state is State.COMMITTED]
    if name is None:
        return State.COMMITTED
    if name not in names:
        raise UsageError(f"no flash stops after {name}", resolution=choose_from(name, names))
    return State(name)


def flash(
    context: FlashContext, plan: FlashPlan, *, until: State = State.COMMITTED, steps: Steps | None = None
) -> FlashResult:
    """Carry the plan out up to `until`; take an open flash of the same plan up where it stopped.

    `steps` are the functions of the plan's door, if not its own.

    Raises the error of the step that failed, after the host was brought back to the old version where that is possible.
    """
    with _held(context):
        refuse_holder(context.store, context.host.name)
        begin = _resume(context, plan)
        context.journal.token = context.token
        if context.unlocks:
            context.clean_up.insert(0, partial(lock_again, context))
        with muted(context, plan), captured(context), _recorded(context, plan, Kind.FLASH, begin=begin, until=until):
            try:
                _run(context, plan, steps or steps_for(plan.door), begin=begin, until=until)
            finally:
                for action in reversed(context.clean_up):
                    with suppress(OSError, QtradeError):
                        action()
    return _result(context, plan)


def abort(settings: Settings, host_name: str, reporter: Reporter) -> FlashResult:
    """End the open flash of a host at a safe point; for one in quarantine, end that: the operator has looked at it.

    Raises `NotFound` where there is nothing to end, `Refused` where only going on is safe.
    """
    before = latest(_folder(settings, host_name))
    store = open_store(settings)
    if before is None or not before.is_open:
        marked = Leases(store.objects).read(host_name)
        if marked is not None and marked.quarantine:
            with lease(settings, store, host_name, reporter, clears=True):
                return FlashResult(host_name, "", "", State.QUARANTINED, str(before.path) if before else "", {})
    context, plan = prepare_open(settings, host_name, reporter)
    with _held(context, clears=True):
        context.journal.token = context.token
        context.unlocks = bool(context.journal.evidence("provider_lock"))
        try:
            with _recorded(context, plan, Kind.ABORT):
                stop(context, plan)
        finally:
            if context.unlocks:
                lock_again(context)
    return _result(context, plan)


@contextmanager
def _recorded(context: FlashContext, plan: FlashPlan, kind: Kind, **inputs: object) -> Iterator[None]:
    """Record the deploy in the store, and who made it in the journal too. What the host runs at its end is what the journal says."""
    chosen = {
        "door": plan.door,
        "plan": plan.digest,
        "allow_older": context.allow_older,
        "reimage": asdict(context.reimage),
        "journal": context.journal.path.name,
        **inputs,
    }
    with recorded_deploy(context, kind, version=plan.version, image=plan.image, inputs=chosen) as progress:
        deploy = progress.deploy
        context.journal.once = {"deploy": deploy.id, "by": asdict(deploy.actor)}
        try:
            yield
        finally:
            progress.ending = _ending(context, plan, kind)


def _ending(context: FlashContext, plan: FlashPlan, kind: Kind) -> Ending:
    state = context.journal.state
    if state is State.COMMITTED:
        generation = str(context.journal.evidence("generation") or "")
        return Ending(Outcome.DONE, state=state, version=plan.version, image=plan.image, generation=generation)
    return Ending(Outcome.DONE if kind is Kind.ABORT else Outcome.STOPPED, state=state or "")


@contextmanager
def _held(context: FlashContext, *, clears: bool = False) -> Iterator[None]:
    """Hold the host. Where the flash ends in QUARANTINED, nobody else gets it before a person says so."""
    with lease(context.settings, context.store, context.host.name, context.reporter, clears=clears) as held:
        context.token, context.check_held = held.token, held.check
        try:
            yield
        finally:
            if context.journal.state is State.QUARANTINED:
                held.quarantine = f"{context.journal.evidence('failed')}: {context.journal.evidence('error')}"


def _result(context: FlashContext, plan: FlashPlan) -> FlashResult:
    entries = context.journal.entries
    evidence: Evidence = {}
    for entry in entries:
        evidence.update(entry.evidence)
    return FlashResult(plan.host, plan.version, plan.image, entries[-1].state, str(context.journal.path), evidence)


def flash_in_order(
    context: FlashContext,
    plan: FlashPlan,
    *,
    until: State = State.COMMITTED,
    may_wipe: bool = False,
    steps_of: Callable[[Door], Steps] = steps_for,
) -> FlashResult:
    """As `flash`; where a door fails before anything was written, go on through the host's next one."""
    while True:
        try:
            return flash(context, plan, until=until, steps=steps_of(plan.door))
        except QtradeError as error:
            failed = context.journal.evidence("failed")
            door = next_door(context.host, plan.door, State(failed), error, may_wipe=may_wipe) if failed else None
            if door is None:
                raise
            context.reporter.say(f"door {plan.door} is closed: {error.brief}; going on through {door}")
            journal = _new_journal(context.settings, context.host)
            context = replace(context, journal=journal, clean_up=[], was_powered_off=False, was_drained=False)
            plan = _plan(context, door)


def _run(context: FlashContext, plan: FlashPlan, steps: Steps, *, begin: State, until: State) -> None:
    order = sequence(plan.door)
    last = order.index(until) + 1
    for number, state in enumerate(order[order.index(begin) : last], start=order.index(begin) + 1):
        context.reporter.say(f"[{number}/{len(order)}] {state}")
        start = time.monotonic()
        context.check_held()
        try:
            if state is State.PLANNED:
                evidence: Evidence = {
                    "plan": plan.digest,
                    "image": plan.image,
                    "version": plan.version,
                    "door": plan.door,
                    "allow_older": context.allow_older,
                    "reimage": asdict(context.reimage),
                }
            else:
                kept = _keep_available(context) if state in _GOES_DOWN else {}
                evidence = {**kept, **steps[state](context, plan.deadline_s(state))}
        except LeaseLost:
            # Whoever lost the host touches it no more, not even to bring an old version back. The flash stays open.
            raise
        except QtradeError as error:
            context.check_held()
            fail(context, plan, state, error)
            raise
        if state is not begin:
            check_move(plan.door, context.journal.state, state)
        context.journal.write(state, {**evidence, "seconds": round(time.monotonic() - start, 1)})


def _keep_available(context: FlashContext) -> Evidence:
    return require_available(context.settings, context.store, context.host, context.environment)


def _resume(context: FlashContext, plan: FlashPlan) -> State:
    """Return the state to begin with: the one after the last of an open flash of the same plan, else the first."""
    before = latest(context.journal.path.parent)
    # Also of a flash that has ended: it may have been killed before it put the lock on again.
    context.unlocks = context.unlocks or (before is not None and bool(before.evidence("provider_lock")))
    if before is None or not before.is_open:
        return State.PLANNED
    if before.evidence("plan") != plan.digest:
        if before.evidence("door") != Door.IN_PLACE:
            _look_at_disk(context, before.state)
        give_up(context, before)
        return State.PLANNED
    context.journal = before
    current = before.state
    if plan.door is not Door.IN_PLACE and current is not None and current in _UNSURE:
        return _enter_anew(context, current)
    if current in _AGENT_STATES:
        return State.STAGING
    order = sequence(plan.door)
    context.reporter.say(f"taken up after {current}")
    return order[order.index(current) + 1] if current else State.PLANNED


def _enter_anew(context: FlashContext, current: State) -> State:
    """Return where a flash whose installer may be at work begins: the door is looked at again, and what runs now is drained.

    Its host may have finished and run the new version, or have gone back to the old one, or have half a system on its disk.
    """
    context.was_drained = _look_at_disk(context, current)
    return State.PREFLIGHT


def _look_at_disk(context: FlashContext, stopped: State | None) -> bool:
    """Note whether a flash through the installer that stopped there may have left half a system; return whether the host answers."""
    if stopped not in _UNSURE:
        return False
    with context.reporter.step(f"an earlier try stopped after {stopped}: does the host run from its disk?"):
        runs = context.status_or_none() is not None
    context.written = None if runs or stopped is State.PREFLIGHT else True
    return runs


def _choose_door(context: FlashContext) -> Door:
    """Return the door of an open flash of this image, else the first that is open: in place needs a host that answers."""
    before = latest(context.journal.path.parent)
    if before is not None and before.is_open and before.evidence("image") == context.image.image.id:
        return Door(before.evidence("door"))
    for door in context.host.doors:
        if door is Door.IN_PLACE and context.reimage.is_asked:
            continue
        if door is Door.IN_PLACE and context.status_or_none("door in_place: wait for the host's answer") is None:
            context.reporter.say("door in_place is closed: the host runs no agent that answers")
            continue
        return door
    raise HostError(
        f"no door of {context.host.name} is open",
        details=f"doors: {', '.join(context.host.doors)}",
        resolution="start the host, or add a door to its manifest",
    )


def _new_journal(settings: Settings, host: Host) -> Journal:
    # The newest is found by its name, also of two in one second.
    now = time.time_ns()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now // 10**9))
    return Journal(_folder(settings, host.name) / f"{stamp}-{now % 10**9 // 1000:06}.jsonl")


def _folder(settings: Settings, host_name: str) -> Path:
    return settings.state_dir / "flashes" / host_name
