"""What an environment's policy does about drift: tell it, or cure it, and how often. Decisions are pure; `carry_out` follows them."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flash.drift.expected import may_vote
from flash.drift.fix import FixPlan, fix, plan_fix
from flash.drift.look import HostReport
from flash.drift.notify import Notice, Notifier
from flash.drift.record import Enforced, Record, Told, record_of
from flash.inventory import load_environment, load_host
from qtrade.errors import QtradeError
from qtrade.manifest import DriftPolicy, Environment
from qtrade.reporter import Reporter
from qtrade.settings import Settings

_KEPT = 500


@dataclass(frozen=True)
class Decision:
    """Whether a host is cured now, and why or why not."""

    acts: bool
    reason: str


def decide(
    plan: FixPlan, report: HostReport, policy: DriftPolicy, record: Record, *, votes: bool, now: float
) -> Decision:
    """Say whether the policy cures this host now. Pure."""
    window = [one for one in record.enforced if now - one.at < policy.enforce_window_s]
    within = f"within {policy.enforce_window_s} s"
    # The first that holds is the reason.
    refusals = {
        f"the policy is {policy.policy}": policy.policy != "enforce",
        "neither a push nor a reboot cures it": not plan.steps,
        f"it is drained ({', '.join(report.drained)}): somebody works on it": bool(report.drained),
        "its validator may vote: a person reboots it, with `qtrade drift --fix`": bool(plan.rebooted) and votes,
        f"it was cured {within} already, and drifts again": any(one.host == plan.host for one in window),
        f"{len(window)} hosts were cured {within}": len(window) >= policy.enforce_at_most,
    }
    reason = next((text for text, holds in refusals.items() if holds), "")
    return Decision(not reason, reason or ", then ".join(plan.steps))


def is_due(report: HostReport, record: Record, policy: DriftPolicy, now: float) -> bool:
    """Say whether a report is to be told: new drift, drift that is gone, or the same after a while. Pure."""
    told = record.told.get(report.host)
    digest = digest_of(report)
    if told is None:
        return report.drifted
    if told.digest != digest:
        return True
    return report.drifted and now - told.at >= policy.notify_every_s


def digest_of(report: HostReport) -> str:
    """Return a digest of what has drifted, empty for nothing; what only differs in its values is the same drift."""
    if not report.drifted:
        return ""
    subjects = sorted(f"{one.kind} {one.subject}" for one in report.findings)
    return hashlib.sha256(json.dumps(subjects).encode()).hexdigest()[:32]


def carry_out(
    settings: Settings,
    reports: Sequence[HostReport],
    reporter: Reporter,
    look: Callable[[str], HostReport],
    *,
    now: Callable[[], float] = time.time,
) -> tuple[Notice, ...]:
    """Do what the policy of each report's environment says, and return what was told. A host that cannot be cured stops no other."""
    notices: list[Notice] = []
    for name in sorted({report.environment for report in reports}):
        own = [report for report in reports if report.environment == name]
        environment = load_environment(settings, load_host(settings, own[0].host))
        if environment.drift.policy != "report":
            notices += _carry_out(settings, environment, own, reporter, look, now)
    return tuple(notices)


def _carry_out(
    settings: Settings,
    environment: Environment,
    reports: Sequence[HostReport],
    reporter: Reporter,
    look: Callable[[str], HostReport],
    now: Callable[[], float],
) -> list[Notice]:
    notices = []
    with Notifier(settings, environment, reporter) as notifier:
        for report in reports:
            done = _enforce(settings, environment, report, reporter, look, now) if report.drifted else ""
            with record_of(settings, environment.name) as record:
                if not done and not is_due(report, record, environment.drift, now()):
                    continue
            notice = Notice(report, done)
            # Only what somebody was told counts as told.
            if notifier.send(notice):
                with record_of(settings, environment.name) as record:
                    record.told[report.host] = Told(digest_of(report), now())
            notices.append(notice)
    return notices


def _enforce(
    settings: Settings,
    environment: Environment,
    report: HostReport,
    reporter: Reporter,
    look: Callable[[str], HostReport],
    now: Callable[[], float],
) -> str:
    """Cure a host where the policy says so, and return what was done in words; empty when nothing was."""
    plan, host = plan_fix(report), load_host(settings, report.host)
    with record_of(settings, environment.name) as record:
        decision = decide(
            plan, report, environment.drift, record, votes=may_vote(host, environment), now=now()
        )  # fmt: skip
        if decision.acts:
            # Before anything is done: a controller that dies has used its turn.
            record.enforced = [*record.enforced[-_KEPT:], Enforced(report.host, now(), plan.steps)]
    if not decision.acts:
        if environment.drift.policy == "enforce":
            reporter.say(f"{report.host}: not cured by policy: {decision.reason}")
        return ""
    reporter.say(f"{report.host}: cured by policy: {decision.reason}")
    try:
        after = fix(settings, plan, reporter, lambda: look(report.host))
    except QtradeError as error:
        reporter.say(f"warning: {report.host}: {error.brief}")
        return f"{', then '.join(plan.steps)} failed: {error.brief}"
    return (
        f"{', then '.join(plan.steps)} cured {len(report.findings) - len(after.findings)}, {len(after.findings)} left"
    )
