"""The states that all doors pass in the same way."""

import getpass
import os
import socket
import time

from flash.context import Evidence, FlashContext
from flash.drivers import BootControl
from flash.hardware import check_hardware
from flash.health import check_specs, wait_until_settled
from flash.provider_lock import is_locked, lock_again
from flash.readiness import ready_within_s, wait_until_ready
from flash.secrets import resolve_secrets
from flash.sent_secrets import sent_secrets
from flash.trust import verify_blobs
from qtrade.errors import HostError, QtradeError, Refused, ToolError
from qtrade.manifest import Environment, Host, Image

_SETTLED_S = 60.0
_COMMITS = 3


def enter_leased(context: FlashContext, deadline_s: float) -> Evidence:
    """Say who holds the lease, which the loop itself holds; and note the provider's lock, which nothing has taken off yet."""
    del deadline_s
    if not context.unlocks and is_locked(context):
        context.unlocks = True
        context.clean_up.insert(0, lambda: lock_again(context))
    lock = {"provider_lock": True} if context.unlocks else {}
    return {"holder": f"{getpass.getuser()}@{socket.gethostname()}", "pid": os.getpid(), "token": context.token, **lock}


def verify_image(context: FlashContext) -> Evidence:
    """Read every byte of the image, and resolve the secrets, before anything happens to the host."""
    with context.reporter.step("verify every blob of the image"):
        verify_blobs(context.store, context.image.image)
    names = sorted(resolve_secrets(context.settings, context.host, context.image.image))
    return {"blobs": len(context.image.image.blobs()), "secrets": names}


def clear_boot_override(context: FlashContext) -> None:
    """Clear the boot override where the driver has one; a BMC that does not let it is warned about."""
    try:
        with context.driver(BootControl) as driver:
            driver.clear_boot_override()
    except Refused:
        return
    except QtradeError as error:
        context.reporter.say(f"warning: {error.brief}")


def require_untouched(context: FlashContext, rows: list[dict[str, str]]) -> Evidence:
    """Return the no-touch proof of the agent's signed report. Raises `HostError` when a disk changed or is not in it.

    An agent on a running host that is older than this proves the protected disks only; `unproven_disks` counts the rest.
    """
    name, host = context.host.name, context.host
    touched = [row["serial"] for row in rows if row["before"] != row["after"]]
    if touched:
        raise HostError(f"{name}: protected disks changed: {', '.join(touched)}")
    if len(rows) < len(host.protected_disks):
        raise HostError(
            f"{name}: the agent proves {len(rows)} of {len(host.protected_disks)} protected disks untouched",
            details=str(rows)[:500],
            resolution="look at the disks before the host boots again",
        )
    return {"protected": rows, "unproven_disks": max(0, len(host.protected_disks) + len(host.data_disks) - len(rows))}


def enter_configured(context: FlashContext, deadline_s: float) -> Evidence:
    """Prove the config generation, then send the secrets."""
    del deadline_s
    status = context.link.status()
    wanted = str(context.journal.evidence("generation"))
    if status["generation"] != wanted:
        raise HostError(
            f"{context.host.name} runs config generation {status['generation']}, not {wanted}",
            resolution="read the agent's journal on the host",
        )
    if status["state"] != "persistent":
        raise HostError(f"{context.host.name} could not mount its state partition", details=f"state={status['state']}")
    values = resolve_secrets(context.settings, context.host, context.image.image)
    if values:
        jobs = context.jobs
        report = context.link.run(jobs.secrets(values))
        # What is the same is not sent again by the next push.
        sent_secrets(context.settings, context.host.name, jobs.key).note(values, report.get("stamps", {}))
    return {"running_generation": status["generation"], "secrets_sent": list(values)}


def enter_healthy(context: FlashContext, deadline_s: float) -> Evidence:
    """Wait until everything has started on a machine of the right kind and its services are ready, then run the specs of all roles."""
    with context.reporter.step("system settles"):
        settled = wait_until_settled(context, within_s=deadline_s - ready_within_s(*_parts(context)))
    settled |= check_hardware(context.settings, context.host, context.environment)
    settled |= wait_until_ready(context)
    with context.reporter.step("specs on the host"):
        return {**settled, **check_specs(context)}


def _parts(context: FlashContext) -> tuple[Host, Environment, Image]:
    return context.host, context.environment, context.image.image


def enter_soaking(context: FlashContext, deadline_s: float) -> Evidence:
    """Watch for as long as the environment says."""
    soak_s = min(context.environment.soak_s, deadline_s)
    time.sleep(soak_s)
    if context.link.status()["boot_id"] != context.journal.evidence("boot_id"):
        raise HostError(f"{context.host.name} rebooted while it was watched")
    settled = wait_until_settled(context, within_s=_SETTLED_S) if soak_s else {}
    return {"soaked_s": soak_s, **settled}


def enter_committed(context: FlashContext, deadline_s: float) -> Evidence:
    """Make the version the default, and read it back."""
    image_id = context.image.image.id
    status, tries = _commit(context, image_id, time.monotonic() + deadline_s)
    again = {"commits": tries} if tries > 1 else {}
    return {"default": image_id, "previous": status["previous"], **again, **_record_installed(context, status)}


def _commit(context: FlashContext, image_id: str, deadline: float) -> tuple[Evidence, int]:
    """Return the host's status with the image as its default, and how often that was asked for.

    Of an answer that got lost nobody knows whether the commit did: the status tells, and a commit can be repeated.
    """
    failed: QtradeError | None = None
    status: Evidence = {}
    for number in range(1, _COMMITS + 1):
        try:
            context.link.run(context.jobs.commit(image_id), timeout_s=max(deadline - time.monotonic(), 1))
        except (HostError, ToolError) as error:
            failed = error
        left_s = max(deadline - time.monotonic(), 1)
        status = context.wait_for_status(lambda _: True, within_s=left_s, what="an answer after the commit")
        if status["default"] == image_id and not status["once"]:
            return status, number
        context.reporter.say(f"{context.host.name} has another default than {image_id[:16]}…")
    raise failed or HostError(
        f"{context.host.name} did not keep {image_id[:16]}… as its default",
        details=str(status)[:500],
        resolution="read the agent's journal on the host; `qtrade hosts show` says what it would boot",
    )


def _record_installed(context: FlashContext, status: Evidence) -> Evidence:
    """Tell the store what the host keeps, so that `images gc` keeps it too. The host is committed, whatever the store says."""
    try:
        context.store.set_host_images(context.host.name, status["installed"])
    except QtradeError as error:
        context.reporter.say(
            f"{context.host.name} is committed, but the store was not told what it keeps installed: {error.brief};"
            " flash it again before images are collected"
        )
        return {"installed_recorded": False, "store_error": error.brief}
    return {"installed_recorded": True}
