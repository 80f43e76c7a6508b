"""What a flash that ends without a reboot owes its host: what the drain stopped starts again."""

from flash.access import HostAccess
from flash.journal import Journal
from flash.states import State, rules
from qtrade.errors import QtradeError
from qtrade.manifest.driver import Door

# One lost answer is no sign that nothing runs there.
_ANSWER_S = 90.0


def is_drained(journal: Journal, door: Door, *, failed: State | None = None) -> bool:
    """Say whether the old version may run on without its services; `failed` is the state that was not reached.

    A flash that was taken up has drained what ran then, so what counts begins with its last PREFLIGHT.
    """
    states = [entry.state for entry in journal.entries]
    begins = max((number for number, state in enumerate(states) if state is State.PREFLIGHT), default=0)
    if _leaves(door) in states[begins:]:
        return False
    stopped = journal.evidence("drained")
    return failed is State.DRAINED or (isinstance(stopped, list) and bool(stopped))


def undrain(context: HostAccess, door: Door) -> str:
    """Start what the drain stopped; the host itself knows what that is, and after a reboot it is nothing.

    Returns what is left for a person to do, empty when nothing is.
    """
    try:
        with context.reporter.step("start the services again"):
            context.wait_for_status(lambda _: True, within_s=_ANSWER_S, what="an answer")
            context.link.run(context.jobs.simple("undrain"), timeout_s=rules(door, State.DRAINED).deadline_s)
    except QtradeError as error:
        return (
            f"{context.host.name} may run on with the services stopped that were drained ({error.brief}): log in as the operator"
            " and start them, unless the host was rebooted since"
        )
    return ""


def _leaves(door: Door) -> State:
    """Return the first state that a drained host does not reach as it was."""
    return State.REBOOTING if door is Door.IN_PLACE else State.STAGING
