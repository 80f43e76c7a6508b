"""Rollback: make an installed version the default and boot it. Moves the boot entry only; nothing is downloaded."""

from dataclasses import dataclass

from flash.access import Evidence, HostAccess, held_access
from flash.agent_link import AgentLink
from flash.deploys import recorded_deploy
from flash.identity.guard import refuse_holder
from flash.inventory import load_host
from flash.journal import latest
from flash.ladder import reboot
from flash.rollback_guard import check_target, choose_target, reasons_against
from flash.ssh import target_for
from flash.states import State
from flash.trust import check_not_revoked
from qtrade.errors import HostError, Refused
from qtrade.look import Row, render_plan
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.history import Ending, Kind, Outcome
from qtrade.trust.keyring import ensure_keyring

_RUNS_ALREADY = "{host} runs that version already"


@dataclass(frozen=True)
class RollbackResult:
    """How a rollback ended; `bytes_fetched` is what the host downloaded for it, `boot` which rung of the ladder booted it."""

    host: str
    version: str
    image: str
    bytes_fetched: int
    boot: Evidence


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback would boot, every reason why it is refused, and what to know of that version first.

    Without `reboots` the version runs already, since the host fell back to it: it becomes the default, and nothing restarts.
    """

    host: str
    runs: str
    version: str
    image: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    reboots: bool = True


def plan_rollback(settings: Settings, host_name: str, *, to: str | None = None) -> RollbackPlan:
    """Ask the host, and change nothing. Raises `HostError`, and `Refused` where no version can be meant."""
    store, host = open_store(settings), load_host(settings, host_name)
    status = AgentLink(target_for(settings, host)).status()
    target = choose_target(settings, store, host, status, to)
    reasons = reasons_against(settings, store, host, status, target)
    if _is_settled(status, target.id):
        reasons = (_RUNS_ALREADY.format(host=host.name), *reasons)
    warning = _say_last_end(settings, host.name, target.version)
    return RollbackPlan(
        host.name,
        status["version"],
        target.version,
        target.id,
        reasons,
        (warning,) if warning else (),
        reboots=target.id != status["image"],
    )


def _is_settled(status: Evidence, image: str) -> bool:
    """Say whether there is nothing to do: the host runs the image, and not because it fell back to it, while the default is another."""
    fell_back = status["previous"] == image != status["default"]
    return bool(status["image"] == image and not fell_back)


def render_rollback(plan: RollbackPlan, *, width: int | None = None) -> str:
    """Return the plan for people."""
    facts = [("runs", plan.runs), ("image", plan.image)]
    facts += [("note", text) for text in plan.warnings]
    facts += [("refused", text) for text in plan.reasons]
    rows = [
        Row("make it the default", "boot state", "no byte is downloaded"),
        Row("reboot", plan.host, "its services stop and start; ledger, database and identity stay as they are")
        if plan.reboots
        else Row("no reboot", plan.host, "it fell back to that version, and runs it"),
    ]
    return render_plan(f"rollback of {plan.host} to {plan.version or plan.image[:16]}", rows, facts=facts, width=width)


def _say_last_end(settings: Settings, host: str, version: str) -> str:
    """Return what became of the last flash of this machine where it was of that version and did not end well, else nothing."""
    journal = latest(settings.state_dir / "flashes" / host)
    if journal is None or journal.is_open or journal.state in (None, State.COMMITTED):
        return ""
    if journal.evidence("version") != version:
        return ""
    return f"the last flash of {version} ended {journal.state}: {journal.evidence('error') or 'see its journal'}"


def rollback(settings: Settings, host_name: str, reporter: Reporter, *, to: str | None = None) -> RollbackResult:
    """Boot the previous version, or version `to`, which must be installed. Raises `Refused`, `HostError`."""
    store, host = open_store(settings), load_host(settings, host_name)
    with held_access(settings, store, host, reporter) as access:
        refuse_holder(store, host.name)
        return _roll_back(access, to=to)


def _roll_back(access: HostAccess, *, to: str | None) -> RollbackResult:
    settings, store, host = access.settings, access.store, access.host
    access.check_login()
    status = access.link.status()
    target = choose_target(settings, store, host, status, to)
    check_not_revoked(store, target.id, ensure_keyring(settings).trust)
    if _is_settled(status, target.id):
        raise Refused(_RUNS_ALREADY.format(host=host.name), resolution="name another with --to")
    check_target(settings, store, host, status, target)
    inputs = {"to": to or "", "before": {"version": status["version"], "image": status["image"]}}
    with recorded_deploy(access, Kind.ROLLBACK, version=target.version, image=target.id, inputs=inputs) as progress:
        result = _boot(access, target.id, status)
        progress.ending = Ending(Outcome.DONE, version=result.version, image=result.image)
    return result


def _boot(access: HostAccess, wanted: str, status: Evidence) -> RollbackResult:
    """Make the image the default, and boot it where it does not run. Raises `HostError`."""
    host = access.host.name
    report = access.link.run(access.jobs.commit(wanted, require_running=False))
    if status["image"] == wanted:
        return RollbackResult(host, status["version"], wanted, report["bytes_fetched"], {})
    after, how = reboot(access, status["boot_id"], what="the boot of the earlier version")
    if after["image"] != wanted:
        raise HostError(f"{host} runs {after['image'][:16]}…, not {wanted[:16]}…", resolution="look at its console")
    return RollbackResult(host, after["version"], after["image"], report["bytes_fetched"], how)
