"""The one loop that runs a flash: it numbers, times, journals, resumes and falls back. Steps never print or journal."""

import time
from contextlib import suppress
from dataclasses import dataclass

from flash.config import render_bundle
from flash.context import Evidence, FlashContext
from flash.doors import Steps, in_place
from flash.doors.table import steps_for
from flash.draining import is_drained, undrain
from flash.inventory import check_allowed, load_environment, load_host
from flash.journal import Journal, latest
from flash.lease import lease
from flash.plan import FlashPlan, config_digest, plan_flash
from flash.readiness import ready_within_s
from flash.secrets import resolve_secrets
from flash.ssh import target_for
from flash.states import ENDS, State, check_move, rules, sequence
from flash.trust import load_allowed
from qtrade.errors import HostError, QtradeError, Refused, UsageError
from qtrade.manifest import Environment, Host
from qtrade.manifest.driver import Door
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store, open_store
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.policy import rules_for

# A flash that stops here is taken up at STAGING: what the agent was told died with the controller.
_AGENT_STATES = (State.STAGING, State.WRITING, State.VERIFIED)


@dataclass(frozen=True)
class FlashResult:
    """How a flash ended."""

    host: str
    version: str
    image: str
    state: State
    journal: str
    evidence: Evidence


def prepare(
    settings: Settings,
    host_name: str,
    version: str | None,
    reporter: Reporter,
    *,
    door: Door | None = None,
    allow_older: bool = False,
) -> tuple[FlashContext, FlashPlan]:
    """Check everything that needs no host, and return the flash with its plan. Raises the errors of the checks."""
    host = load_host(settings, host_name)
    environment = load_environment(settings, host)
    store = open_store(settings)
    chosen = version or _choose_version(store, host, environment)
    trust = ensure_keyring(settings).trust
    image = load_allowed(store, host.recipe, chosen, trust=trust, environment=environment)
    check_allowed(host, environment, image.image)
    bundle = render_bundle(host, environment, image.image)
    target_for(settings, host)
    resolve_secrets(settings, host, image.image)
    journal = _new_journal(settings, host)
    context = FlashContext(settings, host, environment, image, store, bundle, reporter, journal, allow_older)
    chosen_door = door or _choose_door(context)
    ready_s = ready_within_s(host, environment, image.image)
    return context, plan_flash(
        host, image.image, chosen_door, config=config_digest(host, bundle), ready_within_s=ready_s
    )


def parse_door(name: str | None) -> Door | None:
    """Return the door of that name, None for none. Raises `UsageError`."""
    try:
        return Door(name) if name else None
    except ValueError as error:
        raise UsageError(f"there is no door {name}", resolution=f"use one of {', '.join(Door)}") from error


def parse_until(name: str | None) -> State:
    """Return the state after which to stop. Raises `UsageError`."""
    names = [state for state in State if state not in ENDS or state is State.COMMITTED]
    if name is None:
        return State.COMMITTED
    if name not in names:
        raise UsageError(f"no flash stops after {name}", resolution=f"use one of {', '.join(names)}")
    return State(name)


def flash(
    context: FlashContext, plan: FlashPlan, *, until: State = State.COMMITTED, steps: Steps | None = None
) -> FlashResult:
    """Carry the plan out up to `until`; take an open flash of the same plan up where it stopped.

    `steps` are the functions of the plan's door, if not its own.

    Raises the error of the step that failed, after the host was brought back to the old version where that is possible.
    """
    with lease(context.settings, context.host.name):
        begin = _resume(context, plan)
        try:
            _run(context, plan, steps or steps_for(plan.door), begin=begin, until=until)
        finally:
            for action in reversed(context.clean_up):
                with suppress(OSError, QtradeError):
                    action()
    entries = context.journal.entries
    evidence: Evidence = {}
    for entry in entries:
        evidence.update(entry.evidence)
    return FlashResult(plan.host, plan.version, plan.image, entries[-1].state, str(context.journal.path), evidence)


def _run(context: FlashContext, plan: FlashPlan, steps: Steps, *, begin: State, until: State) -> None:
    order = sequence(plan.door)
    last = order.index(until) + 1
    for number, state in enumerate(order[order.index(begin) : last], start=order.index(begin) + 1):
        context.reporter.say(f"[{number}/{len(order)}] {state}")
        start = time.monotonic()
        try:
            if state is State.PLANNED:
                evidence: Evidence = {
                    "plan": plan.digest,
                    "image": plan.image,
                    "version": plan.version,
                    "door": plan.door,
                }
            else:
                evidence = steps[state](context, plan.deadline_s(state))
        except QtradeError as error:
            _fail(context, plan, state, error)
            raise
        current = context.journal.state
        if not (current in _AGENT_STATES and state is State.STAGING):
            check_move(plan.door, current, state)
        context.journal.write(state, {**evidence, "seconds": round(time.monotonic() - start, 1)})


def _fail(context: FlashContext, plan: FlashPlan, state: State, error: QtradeError) -> None:
    """Journal where the failure leads; bring the old version back where the flash had gone beyond it."""
    end = rules(plan.door, state).on_failure
    evidence: Evidence = {"failed": state, "error": error.brief, "details": error.details[-1000:]}
    if plan.door is Door.IN_PLACE and state is State.ARMED:
        with suppress(QtradeError):
            in_place.disarm(context)
    if end is State.ROLLED_BACK:
        try:
            with context.reporter.step("return to the old version"):
                evidence.update(in_place.confirm_fallback(context, rules(plan.door, State.REBOOTING).deadline_s))
        except QtradeError as worse:
            end = State.QUARANTINED
            evidence["fallback"] = worse.brief
    if _runs_on(context, end, evidence) and is_drained(context.journal, plan.door, failed=state):
        left = undrain(context, plan.door)
        evidence["undrained"] = not left
        error.resolution = "; ".join(filter(None, (error.resolution, left)))
    context.journal.write(end, evidence)
    context.reporter.say(f"{end}: {error.brief}")


def _runs_on(context: FlashContext, end: State, evidence: Evidence) -> bool:
    """Say whether the old version has never been left."""
    if end is State.ROLLED_BACK:
        return bool(evidence["boot_id"] == context.journal.evidence("armed_boot_id"))
    return end is State.FAILED_SAFE and not context.was_powered_off


def _resume(context: FlashContext, plan: FlashPlan) -> State:
    """Return the state to begin with: the one after the last of an open flash of the same plan, else the first."""
    before = latest(context.journal.path.parent)
    if before is None or not before.is_open:
        return State.PLANNED
    if before.evidence("plan") != plan.digest:
        _give_up(context, before)
        return State.PLANNED
    context.journal = before
    current = before.state
    if current in _AGENT_STATES:
        return State.STAGING
    order = sequence(plan.door)
    context.reporter.say(f"taken up after {current}")
    return order[order.index(current) + 1] if current else State.PLANNED


def _give_up(context: FlashContext, before: Journal) -> None:
    """Close the journal of a flash that another one replaces; nobody has proven that an old version came back.

    The one that replaces it may fail before it drains, or takes long until then: what was drained starts again.
    """
    state, door = before.state, before.evidence("door")
    end = rules(Door(door), state).on_failure if state and door else State.FAILED_SAFE
    if end is State.ROLLED_BACK:
        end = State.QUARANTINED
    evidence: Evidence = {"error": "given up for another flash"}
    if door and is_drained(before, Door(door)):
        left = undrain(context, Door(door))
        evidence["undrained"] = not left
        if left:
            context.reporter.say(f"warning: {left}")
    before.write(end, evidence)


def _choose_door(context: FlashContext) -> Door:
    """Return the door of an open flash of this image, else the first that is open: in place needs a host that answers."""
    before = latest(context.journal.path.parent)
    if before is not None and before.is_open and before.evidence("image") == context.image.image.id:
        return Door(before.evidence("door"))
    for door in context.host.doors:
        if door is Door.IN_PLACE and context.status_or_none() is None:
            context.reporter.say("door in_place is closed: the host runs no agent that answers")
            continue
        return door
    raise HostError(
        f"no door of {context.host.name} is open",
        details=f"doors: {', '.join(context.host.doors)}",
        resolution="start the host, or add a door to its manifest",
    )


def _choose_version(store: Store, host: Host, environment: Environment) -> str:
    """Return where the environment's channel leads; in development, where nothing needs a promotion, the newest version."""
    channel = rules_for(environment).channel
    if channel != "dev":
        pointer = store.channel(host.recipe, channel)
        if pointer is None:
            raise Refused(
                f"channel {channel} of {host.recipe} leads nowhere",
                resolution=f"run `qtrade images promote VERSION --recipe {host.recipe} --to {channel}`",
            )
        return pointer.version
    versions = store.versions(host.recipe)
    if not versions:
        raise Refused(
            f"the store has no image of {host.recipe}",
            resolution=f"run `qtrade bake --recipe {host.recipe} --version …`",
        )
    return versions[-1]


def _new_journal(settings: Settings, host: Host) -> Journal:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return Journal(settings.state_dir / "flashes" / host.name / f"{stamp}-{time.time_ns() % 10**6:06}.jsonl")
