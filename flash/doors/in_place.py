"""The in-place door: the agent of the running host adds the missing layers and a boot entry; services run meanwhile."""

import secrets
from contextlib import ExitStack

from flash.context import Evidence, FlashContext
from flash.doors import Steps, shared
from flash.generations import next_generation
from flash.hardware import check_hardware
from flash.ladder import climb, reboot_rungs
from flash.netboot.delivery import Delivery
from flash.netboot.server import FlashServer
from flash.progress import FetchProgress
from flash.states import State
from flash.written_data import refuse_far_data
from qtrade.errors import HostError, Refused
from qtrade.trust.policy import raise_refused, refuse_older

_PORTS = range(42000, 43000)
# After as many, GRUB boots the previous image in place of the default.
_FAILED_BOOTS = 3
_ANSWER_S = 90.0


def steps() -> Steps:
    """Return one function per state."""
    return {
        State.LEASED: shared.enter_leased,
        State.PREFLIGHT: _preflight,
        State.STAGING: _staging,
        State.WRITING: _writing,
        State.VERIFIED: _verified,
        State.DRAINED: _drained,
        State.ARMED: _armed,
        State.REBOOTING: _rebooting,
        State.CONFIGURED: shared.enter_configured,
        State.HEALTHY: shared.enter_healthy,
        State.SOAKING: shared.enter_soaking,
        State.COMMITTED: shared.enter_committed,
    }


def _preflight(context: FlashContext, deadline_s: float) -> Evidence:
    del deadline_s
    context.check_login()
    evidence = shared.verify_image(context)
    status = context.link.status()
    if status["state"] != "persistent":
        raise Refused(
            f"{context.host.name} runs without its state partition",
            resolution="repair the partition, or flash the host through another door",
        )
    refusals = refuse_older(context.image.sequence, status.get("sequence", 0), allow_older=context.allow_older)
    raise_refused(f"{context.image.image.version} must not follow on {context.host.name}", refusals)
    refuse_far_data(context.settings, context.host, context.image.image, status)
    check_hardware(context.settings, context.host, context.environment)
    # What boots if the new version does not: not always what runs, if that was never committed.
    uses_default = status["default"] and status["failed_boots"] < _FAILED_BOOTS
    return {
        **evidence,
        "old_image": status["default"] if uses_default else status["image"],
        "old_boot_id": status["boot_id"],
    }


def _staging(context: FlashContext, deadline_s: float) -> Evidence:
    del deadline_s
    status = context.link.status()
    generation = next_generation(context.settings, context.host.name, seen=status["generation"])
    return {"agent_boot_id": status["boot_id"], "generation": generation}


def _writing(context: FlashContext, deadline_s: float) -> Evidence:
    generation = context.journal.evidence("generation")
    bundle = context.bundle.envelope(generation, context.jobs.key)
    with ExitStack() as stack:
        server = stack.enter_context(FlashServer("127.0.0.1", 0))
        served = stack.enter_context(server.serving(Delivery(context.store.open_blob, lambda _: None)))
        advance = stack.enter_context(context.reporter.transfer("layers", sum(context.image.image.blobs().values())))
        port = secrets.choice(_PORTS)
        source = f"http://127.0.0.1:{port}/{served.token}"
        job = context.jobs.stage(context.image, source=source, bundle=bundle, allow_older=context.allow_older)

        progress = FetchProgress(context.reporter, advance)
        report = context.link.run(
            job, timeout_s=deadline_s, on_event=progress.take, forward=f"127.0.0.1:{port}:127.0.0.1:{server.port}"
        )
    return {
        "bytes_fetched": report["bytes_fetched"],
        "blobs_fetched": report["blobs_fetched"],
        "retries": report.get("retries", 0),
        "transfer": progress.summary(),
        "protected": report["protected"],
    }


def _verified(context: FlashContext, deadline_s: float) -> Evidence:
    del deadline_s
    proof = shared.require_untouched(context, context.journal.evidence("protected"))
    installed = context.link.status()["installed"]
    if context.image.image.id not in installed:
        raise HostError(f"{context.host.name} does not list the image as installed", details=str(installed))
    return {**proof, "installed": installed}


def _drained(context: FlashContext, deadline_s: float) -> Evidence:
    return {"drained": context.link.run(context.jobs.simple("drain"), timeout_s=deadline_s)["drained"]}


def _armed(context: FlashContext, deadline_s: float) -> Evidence:
    del deadline_s
    job = context.jobs.arm(context.image.image.id)
    context.link.run(job)
    status = context.link.status()
    if status["once"] != context.image.image.id:
        raise HostError(f"{context.host.name} did not keep the boot-once entry", details=str(status)[:500])
    return {"nonce": job.nonce, "armed_boot_id": status["boot_id"]}


def _rebooting(context: FlashContext, deadline_s: float) -> Evidence:
    armed_boot_id = context.journal.evidence("armed_boot_id")

    def new_boot(within_s: float) -> Evidence:
        return context.wait_for_status(
            lambda now: now["boot_id"] != armed_boot_id, within_s=within_s, what="the boot of the new version"
        )

    rungs = reboot_rungs(context, deadline_s, is_due=lambda now: now["boot_id"] == armed_boot_id)
    with context.reporter.step("reboot"):
        status, how = climb(context, rungs, new_boot, what="the boot of the new version")
    return {**prove_boot(context, status), **how}


def prove_boot(context: FlashContext, status: Evidence) -> Evidence:
    """Return the evidence that the new image booted. Raises `HostError` when another one did."""
    if status["image"] != context.image.image.id:
        raise HostError(
            f"{context.host.name} fell back: {context.image.image.version} did not boot, {status['version'] or status['image'][:16]} runs",
            details=f"boot_id {status['boot_id']}",
            resolution="read the console of the failed boot; the host is as it was before the flash",
        )
    if status["nonce"] != context.journal.evidence("nonce"):
        raise HostError(f"{context.host.name} answers with another nonce than it was given", details=str(status)[:300])
    return {"boot_id": status["boot_id"], "image": status["image"], "verified_by": status["verified"]}


def confirm_fallback(context: FlashContext, deadline_s: float) -> Evidence:
    """After a failure: make sure that the old version runs, by a reboot if the new one does. Raises `HostError`."""
    old = context.journal.evidence("old_image")
    if old == context.image.image.id:
        raise HostError(
            f"{context.host.name}: the image that failed is also the old one; its new config stays current",
            resolution="correct the values and run `qtrade push`",
        )

    def old_runs(within_s: float) -> Evidence:
        return context.wait_for_status(
            lambda now: now["image"] == old, within_s=within_s, what="the return of the old version"
        )

    rungs = reboot_rungs(context, deadline_s, is_due=lambda now: now["image"] != old)
    status, how = climb(context, rungs, old_runs, what="the return of the old version")
    if status["once"]:
        disarm(context)
    return {"running": status["image"], "version": status["version"], "boot_id": status["boot_id"], **how}


def disarm_surely(context: FlashContext) -> None:
    """See that the next boot is of the old version, whether the new one was armed or not. Raises `HostError`.

    A lost answer is why arming failed, most of the time, so the host gets a while to give another.
    """
    context.wait_for_status(lambda _: True, within_s=_ANSWER_S, what="an answer before it is disarmed")
    disarm(context)
    armed = context.image.image.id
    context.wait_for_status(lambda now: now["once"] != armed, within_s=_ANSWER_S, what="the disarming")


def disarm(context: FlashContext) -> None:
    """Let the next boot be of the old version again."""
    context.link.run(context.jobs.arm(context.journal.evidence("old_image")))
