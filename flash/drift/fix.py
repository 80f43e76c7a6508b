"""Cure drift as far as a push or a reboot does, and see that it is cured. Nothing on the host is edited."""

from collections.abc import Callable
from dataclasses import dataclass

from flash.access import HostAccess, held_access
from flash.availability import require_available
from flash.draining import undrain
from flash.drift.findings import Finding, Remedy
from flash.drift.look import HostReport
from flash.drift.report import cure_of
from flash.health import wait_until_settled
from flash.identity.guard import refuse_holder
from flash.inventory import load_environment, load_host
from flash.ladder import reboot
from flash.push import push
from flash.states import State, rules
from qtrade import look
from qtrade.errors import HostError, QtradeError, Refused
from qtrade.look import Row
from qtrade.manifest import DriftKind
from qtrade.manifest.driver import Door
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store

_SETTLED_S = 900.0


@dataclass(frozen=True)
class FixPlan:
    """What is done for a host: `pushed` is what a push cures, `rebooted` what a reboot does, `left` what neither does."""

    host: str
    pushed: tuple[Finding, ...]
    rebooted: tuple[Finding, ...]
    left: tuple[Finding, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps, in their order."""
        wanted = (("push", self.pushed), ("reboot", self.rebooted))
        return tuple(name for name, findings in wanted if findings)


def plan_fix(report: HostReport) -> FixPlan:
    """Return what a push and a reboot would cure. Pure."""
    by_remedy = {remedy: tuple(one for one in report.findings if one.remedy is remedy) for remedy in Remedy}
    return FixPlan(report.host, by_remedy[Remedy.PUSH], by_remedy[Remedy.REBOOT], by_remedy[Remedy.HAND])


def render_plan(plan: FixPlan, report: HostReport, *, width: int | None = None) -> str:
    """Return the plan as people read it."""
    title = f"fix {plan.host}: {', then '.join(plan.steps) or 'nothing that a push or a reboot cures'}"
    rows = [
        Row(step, f"{one.kind} {one.subject}", one.what)
        for step, findings in (("push", plan.pushed), ("reboot", plan.rebooted))
        for one in findings
    ]
    rows += [Row("left", f"{one.kind} {one.subject}", f"yours: {cure_of(one)}") for one in plan.left]
    drained = [("drained", f"{', '.join(report.drained)}: the reboot starts these again")]
    return look.render_plan(title, rows, facts=drained if report.drained and plan.rebooted else (), width=width)


def fix(settings: Settings, plan: FixPlan, reporter: Reporter, look: Callable[[], HostReport]) -> HostReport:
    """Carry a plan out, `look` again, and return what is left.

    Raises `HostError` when something is still there that it was to cure, `ConflictError` for a host that somebody holds, and as a push.
    """
    if plan.rebooted and any(one.kind is DriftKind.HOST_KEY for one in plan.left):
        raise Refused(
            f"{plan.host} would come back with an SSH key that is not the pinned one, and nobody could log in",
            resolution="see to its host key first; nothing was done",
        )
    if plan.pushed:
        push(settings, plan.host, reporter)
    if plan.rebooted:
        _reboot(settings, plan.host, reporter)
    after = look()
    promised = (*plan.pushed, *plan.rebooted)
    still = {(one.kind, one.subject) for one in after.findings}
    stays = [one for one in promised if (one.kind, one.subject) in still]
    if stays or (promised and any(one.kind is DriftKind.UNOBSERVED for one in after.findings)):
        lines = [f"  {one.kind}: {one.subject}: {one.what}" for one in after.findings]
        raise HostError(
            f"{plan.host}: {', then '.join(plan.steps)} did not cure what it was to",
            details="\n".join(lines),
            resolution="flash the host with its version again, or another one",
        )
    return after


def _reboot(settings: Settings, host_name: str, reporter: Reporter) -> None:
    store, host = open_store(settings), load_host(settings, host_name)
    with held_access(settings, store, host, reporter) as access:
        status = access.link.status()
        if status["image"] != status["default"] or status["once"]:
            raise Refused(
                f"{host.name}: a reboot would boot another image than the one that runs",
                details=f"default {status['default'][:16]}, once {status['once'][:16] or 'none'}, runs {status['image'][:16]}",
                resolution="end its flash first (`qtrade flash --resume` or `--abort`)",
            )
        refuse_holder(store, host.name)
        require_available(settings, store, host, load_environment(settings, host))
        _drain(access)
        reboot(access, status["boot_id"], what="the reboot")
        wait_until_settled(access, within_s=_SETTLED_S)


def _drain(access: HostAccess) -> None:
    """End the services gracefully; where that fails, nothing is rebooted and they start again."""
    try:
        with access.reporter.step("drain"):
            access.link.run(access.jobs.simple("drain"), timeout_s=rules(Door.IN_PLACE, State.DRAINED).deadline_s)
    except QtradeError as error:
        left = undrain(access, Door.IN_PLACE)
        error.resolution = "; ".join(filter(None, (error.resolution, left)))
        raise
