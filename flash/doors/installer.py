"""All doors that put an agent on a host that then does nothing else: how it is made to run is an `Entry`, the rest is the same.

The agent gets a signed job, writes the OS disk, and tells of it; the new version boots next.
"""

import json
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flash.context import Evidence, FlashContext
from flash.doors import Steps, boot_watch, shared
from flash.doors.boot_watch import BootWatch
from flash.doors.in_place import prove_boot
from flash.drivers import PowerControl
from flash.generations import next_generation
from flash.jobs import SignedJob, check_report, failure
from flash.ladder import SOFT, Rung, climb, power_rung
from flash.netboot.delivery import Delivery, OpenDelivery
from flash.netboot.ipxe import BootPlan
from flash.netboot.server import FlashServer
from flash.progress import FetchProgress
from flash.ssh import pin_host_key
from flash.states import State
from flash.trust import sequence_kept
from flash.written_data import refuse_far_data
from qtrade.errors import HostError, QtradeError, TrustError
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.policy import raise_refused, refuse_older, rules_for

# Given the delivery's URL and a config generation.
JobMaker = Callable[[FlashContext, str, int], SignedJob]
INSTALLER_ARGUMENTS = "boot=installer console=tty0 console=ttyS0,115200n8 panic=10"
# What the agent tells before its first write.
_BEFORE_WRITES = {"begin", "check", "warning"}
# What a drain may take that nobody has planned for.
_DRAIN_S = 1800.0
# How often is looked whether the lease still holds, while the agent says nothing.
_LOOK_S = 5.0
# What kept the agent from its first word, and may not do so the next time.
_AGAIN = (boot_watch.CODE, "agent-lost")


@dataclass(frozen=True)
class Place:
    """Where a flash serves (port 0: any), and how the host reaches it; without a `url` it is where it listens.

    `mac` is of the card that the installer uses, None for any. With `shows_job` the job is there for whoever knows the path; without it,
    the job goes to the agent another way, and nobody else ever sees its nonce. With `asks_by_mac` a MAC is enough to get the installer.
    """

    listen: str
    port: int
    url: str | None = None
    mac: str | None = None
    ip: str = "dhcp"
    shows_job: bool = True
    asks_by_mac: bool = False


@dataclass(frozen=True)
class Installer:
    """What an entry may use to get the agent running.

    `served` is the delivery of this flash: at its URL the host finds the blobs, and if the place shows them also kernel, initrd and job.
    `tell` takes events that come another way than by HTTP.
    """

    server: FlashServer
    served: OpenDelivery
    boot: BootPlan
    job: SignedJob
    tell: Callable[[Mapping[str, Any]], None]


class Entry(Protocol):
    """One way to get the agent running on a host."""

    def check(self, context: FlashContext) -> Evidence:
        """Check what needs no change of the host (PREFLIGHT). Raises `Refused`, `HostError`."""
        ...

    def can_repeat(self, context: FlashContext) -> bool:
        """Say whether `enter` can be called once more without more harm, for a host that did not come to the installer."""
        ...

    def place(self, context: FlashContext) -> Place:
        """Return where the flash serves, and how the host reaches it."""
        ...

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Make the agent run (STAGING); return what was done. What must be undone goes to `context.clean_up`."""
        ...

    def leave(self, context: FlashContext) -> None:
        """See that the host boots from its disk next (REBOOTING). Called once the disk is written; may be called twice."""
        ...


@runtime_checkable
class LeavesOnArrival(Protocol):
    """An entry whose way in stays open, and would lead the installer's own reboot back to the installer."""

    def arrived(self, context: FlashContext) -> None:
        """Close it, as the installer runs; where that fails, `leave` is the next try."""
        ...


def steps(entry: Entry) -> Steps:
    """Return one function per state. They share the server of the flash and the agent's events."""
    run = InstallerRun(entry, _install_job)
    return {
        State.LEASED: shared.enter_leased,
        State.PREFLIGHT: run.preflight,
        State.DRAINED: enter_drained,
        State.STAGING: run.staging,
        State.WRITING: run.writing,
        State.VERIFIED: run.verified,
        State.ARMED: run.armed,
        State.REBOOTING: run.rebooting,
        State.CONFIGURED: shared.enter_configured,
        State.HEALTHY: shared.enter_healthy,
        State.SOAKING: shared.enter_soaking,
        State.COMMITTED: shared.enter_committed,
    }


def efi_loader(context: FlashContext) -> Path | None:
    """Return iPXE as a UEFI program, for firmware that boots from HTTP by itself and has no iPXE in its network card."""
    path = context.settings.tools_dir / "usr/lib/ipxe/snponly.efi"
    return path if path.is_file() else None


def read_power(context: FlashContext) -> Evidence:
    """Return the power state as the driver says, nothing where it cannot say."""
    with context.driver(PowerControl) as driver:
        return {"power": driver.power_state()}


def _install_job(context: FlashContext, url: str, generation: int) -> SignedJob:
    bundle = context.bundle.envelope(generation, context.jobs.key)
    report = f"{url}/report"
    # An older image's agent knows nothing of what is not asked for.
    asked = {name: value for name, value in asdict(context.reimage).items() if value}
    if context.allow_older:
        asked["allow_older"] = True
    return context.jobs.install(context.image, source=url, report=report, bundle=bundle, asked=asked)


def enter_drained(context: FlashContext, deadline_s: float) -> Evidence:
    """Refuse an image that must not follow on what the host runs, or ran last; then stop its services (DRAINED)."""
    return drain(context, deadline_s, admit=_admit)


def _admit(context: FlashContext, status: Evidence | None) -> None:
    image = context.image
    if status is None:
        trust, channel = ensure_keyring(context.settings).trust, rules_for(context.environment).channel
        runs_by = sequence_kept(context.store, context.host.name, trust, channel)
    else:
        refuse_far_data(context.settings, context.host, image.image, status)
        runs_by = status.get("sequence", 0)
    refusals = refuse_older(image.sequence, runs_by, allow_older=context.allow_older)
    raise_refused(f"{image.image.version} must not follow on {context.host.name}", refusals)


def drain(
    context: FlashContext,
    deadline_s: float,
    *,
    admit: Callable[[FlashContext, Evidence | None], None] = lambda *_: None,
) -> Evidence:
    """Stop the services, if the host runs any. A host that answers runs from its disk, whatever was written to that before.

    `admit` gets the host's status, None for one that does not answer, before anything is stopped.
    """
    runs = context.journal.evidence("runs")
    status = None if runs else context.status_or_none()
    context.left_boot_id = status["boot_id"] if status else None
    admit(context, status)
    if status is None:
        return {"drained": f"the host runs {runs or 'no agent that answers'}"}
    context.written, context.was_powered_off, context.was_drained = None, False, True
    drained = context.link.run(context.jobs.simple("drain"), timeout_s=deadline_s)["drained"]
    context.was_drained = bool(drained)
    return {"drained": drained}


class InstallerRun:
    """The server of a flash and what the agent told so far."""

    def __init__(self, entry: Entry, make_job: JobMaker) -> None:
        self._entry = entry
        self._make_job = make_job
        self._events: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self._report: Mapping[str, Any] | None = None
        self._steps: set[str] = set()
        self._nonce = ""

    def preflight(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Check the way in, the image and the secrets."""
        del deadline_s
        return {**self._entry.check(context), **shared.verify_image(context)}

    def staging(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Serve image and job, make the agent run, and wait for its first word."""
        generation = next_generation(context.settings, context.host.name)
        installer = self._serve(context, generation)
        tries = 2 if self._entry.can_repeat(context) else 1
        entered: Evidence = {}

        def enter() -> None:
            installer.server.deliveries.rearm(installer.served.token)
            entered.update(self._entry.enter(context, installer))
            context.was_powered_off = True
            context.link.disconnect()

        def enter_again() -> None:
            # The old system may have booted instead, and its services with it.
            entered["drained_again"] = drain(context, _DRAIN_S)["drained"]
            enter()

        def first_word(within_s: float) -> Evidence:
            with BootWatch(context, context.left_boot_id, self._events.put):
                event = dict(self._next(context, within_s))
            if event.get("event") == "error" and event["error"].get("code") in _AGAIN:
                self._take(event)
            return event

        # Each time anew: the boot override and the boot script work once.
        rungs = [Rung("first entry", deadline_s / tries, enter), Rung("second entry", deadline_s / tries, enter_again)]
        with context.reporter.step("boot of the installer"):
            first, how = climb(context, rungs[:tries], first_word, what="the installer")
        self._take(first)
        if isinstance(self._entry, LeavesOnArrival):
            self._entry.arrived(context)
        return {
            **entered,
            **how,
            "nonce": self._nonce,
            "generation": generation,
            "first_event": first.get("step", "report"),
        }

    def _serve(self, context: FlashContext, generation: int) -> Installer:
        """Open the server of the flash, until it ends, and sign the job."""
        place = self._entry.place(context)
        stack = ExitStack()
        context.clean_up.append(stack.close)
        server = stack.enter_context(
            FlashServer(place.listen, place.port, url=place.url, efi_loader=efi_loader(context))
        )
        image = context.image.image
        boot = BootPlan(
            mac=place.mac,
            kernel=context.store.open_blob(image.kernel.digest),
            initrd=context.store.open_blob(image.installer.digest),
            root_id=context.jobs.root_id,
            arguments=f"{INSTALLER_ARGUMENTS} ip={place.ip}",
            asks_by_mac=place.asks_by_mac,
        )
        delivery = Delivery(context.store.open_blob, self._events.put, boot=boot if place.shows_job else None)
        served = stack.enter_context(server.serving(delivery))
        job = self._make_job(context, served.url, generation)
        self._nonce = job.nonce
        if place.shows_job:
            served.job = json.dumps(job.envelope).encode()
        return Installer(server, served, boot, job, self._events.put)

    def writing(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Follow the agent until all bytes are written."""
        total = sum(context.image.image.blobs().values())
        deadline = time.monotonic() + deadline_s
        with context.reporter.transfer("write the OS disk", total) as advance:
            progress = FetchProgress(context.reporter, advance)
            while self._report is None:
                event = self._next(context, deadline - time.monotonic())
                self._take(event)
                progress.take(event)
                if event.get("step") in ("state", "boot"):
                    break
        if self._report is not None:
            self._checked_report(context, self._report)
        return {"written_bytes": total, "transfer": progress.summary()}

    def verified(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Check the agent's report: it read everything back and compared the protected disks."""
        report = self.await_report(context, deadline_s)
        if report["boot_id"] == context.journal.evidence("old_boot_id"):
            raise HostError(f"{context.host.name}: the agent answered from the system that ran before")
        return {
            **shared.require_untouched(context, report["protected"]),
            "bytes_fetched": report["bytes_fetched"],
            "retries": report.get("retries", 0),
        }

    def armed(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Pin the SSH host key that came with the report; the boot entry is written."""
        report = self.await_report(context, deadline_s)
        pin_host_key(context.settings, context.host.name, report["ssh_host_key"])
        return {"armed_boot_id": report["boot_id"], "ssh_host_key": report["ssh_host_key"]}

    def await_report(self, context: FlashContext, deadline_s: float) -> dict[str, Any]:
        """Wait for the report and return it once its signature is checked. Raises `HostError` for a failed job."""
        deadline = time.monotonic() + deadline_s
        while self._report is None:
            self._take(self._next(context, deadline - time.monotonic()))
        return self._checked_report(context, self._report)

    def _checked_report(self, context: FlashContext, report: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return check_report(dict(report), self._nonce, context.host.name)
        except TrustError:
            raise
        except QtradeError:
            # An agent that is older than this does not say it, but it tells of its first write.
            is_unwritten = not report.get("written", not self._steps <= _BEFORE_WRITES)
            if is_unwritten and context.written is None:
                context.written = False
            raise

    def _take(self, event: Mapping[str, Any]) -> None:
        self._steps.add(str(event.get("step", "begin")))
        if event.get("event") == "report":
            self._report = event
        if event.get("event") == "error":
            error = event.get("error")
            raise failure("the agent", error if isinstance(error, dict) else {})

    def _next(self, context: FlashContext, within_s: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + within_s
        while True:
            # Whoever lost the host must not go on to serve the installer.
            context.check_held()
            with suppress(queue.Empty):
                return self._events.get(timeout=max(min(deadline - time.monotonic(), _LOOK_S), 0.01))
            if time.monotonic() >= deadline:
                raise HostError(
                    f"the agent said nothing for {within_s:.0f} s",
                    resolution="look at the host's console: did it boot the installer?",
                )

    def rebooting(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Wait until the new version answers; the installer reboots by itself, else the driver does it."""
        installer = context.journal.evidence("armed_boot_id")
        nonce = context.journal.evidence("nonce")

        def new_boot(within_s: float) -> Evidence:
            return context.wait_for_status(
                lambda now: now["boot_id"] != installer and now["nonce"] == nonce,
                within_s=within_s,
                what="the boot of the new version",
            )

        def leave() -> None:
            self._entry.leave(context)

        rungs = [Rung(SOFT, deadline_s / 2, leave), power_rung(context, deadline_s / 2, before=leave)]
        with context.reporter.step("boot of the new version"):
            status, how = climb(context, rungs, new_boot, what="the boot of the new version")
        return {**prove_boot(context, status), **how}
