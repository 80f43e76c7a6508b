"""How a flash ends other than well: it fails, it is given up for another one, or an operator aborts it."""

from flash.context import Evidence, FlashContext
from flash.doors import in_place
from flash.doors.shared import clear_boot_override
from flash.draining import is_drained, undrain
from flash.health import wait_until_settled
from flash.journal import Journal
from flash.plan import FlashPlan
from flash.states import State, rules, sequence
from qtrade.errors import HostError, QtradeError, Refused
from qtrade.manifest.driver import Door

_SETTLED_S = 300.0
_HALF_WRITTEN = "the OS disk may be half written: flash the host again, through a door that needs no running system"


def fail(
    context: FlashContext, plan: FlashPlan, state: State, error: QtradeError, *, end: State | None = None
) -> State:
    """Journal where the failure of `state` leads, and return it; bring the old version back where the flash had gone beyond it.

    `end` takes the place of what the rules of the state say.
    """
    end = end or _end_of(context, plan, state)
    evidence: Evidence = {"failed": state, "error": error.brief, "details": error.details[-1000:]}
    if plan.door is not Door.IN_PLACE and context.written is not None:
        evidence["written"] = context.written
    if end is State.FAILED_DIRTY and context.written:
        error.resolution = "; ".join(filter(None, (error.resolution, _HALF_WRITTEN)))
    if plan.door is Door.IN_PLACE and state is State.ARMED:
        end = _disarm(context, end, error, evidence)
    if end is State.ROLLED_BACK:
        try:
            with context.reporter.step("return to the old version"):
                evidence.update(in_place.confirm_fallback(context, rules(plan.door, State.REBOOTING).deadline_s))
        except QtradeError as worse:
            end = State.QUARANTINED
            evidence["fallback"] = worse.brief
    was_drained = context.was_drained or is_drained(context.journal, plan.door, failed=state)
    if _runs_on(context, end, evidence) and was_drained:
        left = undrain(context, plan.door)
        evidence["undrained"] = not left
        error.resolution = "; ".join(filter(None, (error.resolution, left)))
    if end is State.ROLLED_BACK:
        _look_at_old(context, error, evidence)
    context.journal.write(end, evidence)
    context.reporter.say(f"{end}: {error.brief}")
    return end


def give_up(context: FlashContext, before: Journal) -> None:
    """Close the journal of a flash that another one replaces; nobody has proven that an old version came back.

    The one that replaces it may fail before it drains, or takes long until then: what was drained starts again.
    """
    state, door = before.state, before.evidence("door")
    end = rules(Door(door), state).on_failure if state and door else State.FAILED_SAFE
    if end is State.ROLLED_BACK:
        end = State.QUARANTINED
    if end is State.FAILED_SAFE and context.written:
        end = State.FAILED_DIRTY
    evidence: Evidence = {"error": "given up for another flash"}
    if door and is_drained(before, Door(door)):
        left = undrain(context, Door(door))
        evidence["undrained"] = not left
        if left:
            context.reporter.say(f"warning: {left}")
    before.write(end, evidence)


def abort(context: FlashContext, plan: FlashPlan) -> State:
    """End the open flash of `context` at a safe point, and return how it ended. Raises `Refused` where only going on is safe.

    In place, the old version stays or comes back. Through other doors, what was written stays: nothing boots until the next flash.
    """
    reached = context.journal.state
    if reached is None:
        raise Refused(f"the flash of {context.host.name} has not begun", resolution="there is nothing to abort")
    if reached is State.SOAKING:
        raise Refused(
            f"{plan.version} runs on {context.host.name} and is healthy; it may be its default already",
            resolution="finish with `qtrade flash --resume`, then go back with `qtrade rollback`",
        )
    order = sequence(plan.door)
    doing = order[order.index(reached) + 1]
    error = HostError(f"aborted by the operator after {reached}")
    end = None
    if plan.door is not Door.IN_PLACE:
        clear_boot_override(context)
        # Whether the installer ran already, and wrote, nobody knows but the host.
        if doing is State.STAGING and context.status_or_none() is None:
            end, context.was_powered_off = State.FAILED_DIRTY, True
            error.details = "it does not answer: it is off, or in the installer"
    return fail(context, plan, doing, error, end=end)


def _disarm(context: FlashContext, end: State, error: QtradeError, evidence: Evidence) -> State:
    """Let the old version boot next, and return where that leads: a host that may boot the new one at any power cut is not safe."""
    try:
        in_place.disarm_surely(context)
    except QtradeError as worse:
        evidence.update(disarmed=False, disarm_error=f"{worse.brief} {worse.details}".strip()[:500])
        left = f"{context.host.name} may boot the new version, once, at its next start; once it answers, flash it again"
        error.resolution = "; ".join(filter(None, (error.resolution, left)))
        return State.QUARANTINED
    evidence["disarmed"] = True
    return end


def _look_at_old(context: FlashContext, error: QtradeError, evidence: Evidence) -> None:
    """Note how the old version is, now that it is back: it may have been ill before, or of the same cause as the new one."""
    try:
        with context.reporter.step("the old version settles"):
            evidence.update(wait_until_settled(context, within_s=_SETTLED_S))
    except QtradeError as ill:
        evidence["ill"] = f"{ill.brief}: {ill.details}"[:500]
        left = f"the old version is back and not well either: {evidence['ill']}"
        error.resolution = "; ".join(filter(None, (error.resolution, left)))


def _end_of(context: FlashContext, plan: FlashPlan, state: State) -> State:
    """Return where the failure of `state` leads. What the installer has written, or not, counts for more than the state."""
    end = rules(plan.door, state).on_failure
    if plan.door is Door.IN_PLACE or end not in (State.FAILED_SAFE, State.FAILED_DIRTY) or context.written is None:
        return end
    return State.FAILED_DIRTY if context.written else State.FAILED_SAFE


def _runs_on(context: FlashContext, end: State, evidence: Evidence) -> bool:
    """Say whether the old version has never been left."""
    if end is State.ROLLED_BACK:
        return bool(evidence["boot_id"] == context.journal.evidence("armed_boot_id"))
    return end is State.FAILED_SAFE and not context.was_powered_off
