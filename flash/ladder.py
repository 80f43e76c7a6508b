"""The ladder of reboots: ask the system, then the hardware. Each rung has its own time, and sets up again what the boot needs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flash.access import Evidence, HostAccess
from flash.drivers import PowerControl
from flash.provider_lock import unlocked
from qtrade.errors import BadInput, HostError, QtradeError, Refused, TrustError
from qtrade.store.leases import LeaseLost

SOFT, POWER_CYCLE = "soft", "power cycle"
# As a flash gives its reboots: half of it to each rung.
_BOOT_DEADLINE_S = 1800.0


@dataclass(frozen=True)
class Rung:
    """One way to make the host boot: `act` does it, then the host has `within_s` to show that it worked."""

    name: str
    within_s: float
    act: Callable[[], object]


def climb(
    context: HostAccess, rungs: Sequence[Rung], proof: Callable[[float], Evidence], *, what: str
) -> tuple[Evidence, Evidence]:
    """Try the rungs in their order; return what `proof` gave, and as evidence which rung worked after which others.

    `proof` waits for as many seconds and raises `HostError` when nothing showed. Raises `HostError` when no rung worked, and at once what
    the first rung finds refused or wrong. Raises `LeaseLost` at once: whoever lost the host must not switch its power.
    """
    tried: list[Evidence] = []
    for rung in rungs:
        start = time.monotonic()
        context.check_held()
        try:
            rung.act()
            found = proof(rung.within_s)
        except LeaseLost:
            raise
        except QtradeError as error:
            # What is refused or wrong stays so on a second try; with one rung there is none.
            if len(rungs) == 1 or (not tried and isinstance(error, (BadInput, Refused, TrustError))):
                raise
            seconds = round(time.monotonic() - start, 1)
            tried.append(
                {"rung": rung.name, "error": f"{error.brief} {error.details}".strip()[:500], "seconds": seconds}
            )
            context.reporter.say(f"{context.host.name}: {what}: {rung.name} did not do it: {error.brief}")
        else:
            return found, {"rung": rung.name, **({"tried": tried} if tried else {})}
    raise HostError(
        f"{context.host.name}: {what} did not happen, not by {' nor by '.join(rung.name for rung in rungs)}",
        details="\n".join(f"{one['rung']}: {one['error']}" for one in tried),
        resolution="look at the host's console",
    )


def reboot(access: HostAccess, boot_id: str, *, what: str) -> tuple[Evidence, Evidence]:
    """Have a running host with this `boot_id` boot anew; return its status after it, and which rung did it. Raises as `climb`."""

    def booted(within_s: float) -> Evidence:
        return access.wait_for_status(lambda now: now["boot_id"] != boot_id, within_s=within_s, what=what)

    rungs = reboot_rungs(access, _BOOT_DEADLINE_S, is_due=lambda now: now["boot_id"] == boot_id)
    with unlocked(access), access.reporter.step(what):
        return climb(access, rungs, booted, what=what)


def reboot_rungs(context: HostAccess, deadline_s: float, *, is_due: Callable[[Evidence], bool]) -> list[Rung]:
    """Return how a running host is rebooted: by its own agent, then by its driver. They share the deadline.

    A host whose status is not due for one has rebooted already, and is only waited for.
    """
    within_s = deadline_s / 2

    def ask() -> None:
        # A busy host may miss an answer; without one nobody knows whether it has rebooted already.
        status = context.wait_for_status(lambda _: True, within_s=within_s, what="an answer before the reboot")
        if is_due(status):
            context.link.run(context.jobs.simple("reboot"))
            context.link.disconnect()

    return [Rung(SOFT, within_s, ask), power_rung(context, within_s)]


def power_rung(context: HostAccess, within_s: float, *, before: Callable[[], object] = lambda: None) -> Rung:
    """Return the rung of the hardware; `before` sets up what the boot needs."""

    def cycle() -> None:
        before()
        with context.driver(PowerControl) as driver:
            driver.power_cycle()

    return Rung(POWER_CYCLE, within_s, cycle)
