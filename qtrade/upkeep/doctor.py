"""`qtrade doctor`: what is missing on this machine and in this project, each with what mends it."""

from dataclasses import dataclass

from qtrade.settings import Settings
from qtrade.upkeep.check import Check, Health
from qtrade.upkeep.machine_checks import check_machine
from qtrade.upkeep.project_checks import check_project, load_hosts
from qtrade.upkeep.reach_checks import check_reach


@dataclass(frozen=True)
class DoctorDocument:
    """What `qtrade doctor --json` prints; `ok` says that nothing is missing."""

    checks: tuple[Check, ...]
    ok: bool


def examine(settings: Settings, *, online: bool) -> DoctorDocument:
    """Look at everything. Changes nothing, and asks no network unless `online`."""
    hosts, read = load_hosts(settings)
    checks = [*check_machine(settings), *check_project(settings, hosts, read, online=online)]
    checks += check_reach(settings, hosts) if online else ()
    return DoctorDocument(tuple(checks), all(check.health is not Health.MISSING for check in checks))


def render_checks(document: DoctorDocument) -> str:
    """Return the checks for people, what is missing last, where the eye is."""
    order = (Health.GOOD, Health.WARNING, Health.MISSING)
    lines = []
    for check in sorted(document.checks, key=lambda one: order.index(one.health)):
        lines.append(f"{check.health:8} {check.name}: {check.found}")
        lines += [f"         to mend it: {check.cure}"] if check.cure else []
    counts = {health: sum(check.health is health for check in document.checks) for health in order}
    return "\n".join([*lines, ", ".join(f"{count} {health}" for health, count in counts.items())])
