"""The PXE door: the BMC boots the host from the network once, our netboot server hands it the installer once."""

import json
import queue
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flash.context import Evidence, FlashContext
from flash.doors import Steps, shared
from flash.doors.in_place import prove_boot
from flash.drivers import BootSource, driver_for
from flash.generations import next_generation
from flash.jobs import check_report
from flash.netboot.delivery import Delivery
from flash.netboot.ipxe import BootPlan
from flash.netboot.server import FlashServer
from flash.ssh import pin_host_key
from flash.states import State
from qtrade.errors import HostError, QtradeError, Refused
from qtrade.manifest.host import Netboot

_INSTALLER_ARGUMENTS = "boot=installer console=tty0 console=ttyS0,115200n8 panic=10"


def steps() -> Steps:
    """Return one function per state. They share the netboot server and the agent's events."""
    run = _PxeRun()
    return {
        State.LEASED: shared.enter_leased,
        State.PREFLIGHT: _preflight,
        State.DRAINED: _drained,
        State.STAGING: run.staging,
        State.WRITING: run.writing,
        State.VERIFIED: run.verified,
        State.ARMED: run.armed,
        State.REBOOTING: _rebooting,
        State.CONFIGURED: shared.enter_configured,
        State.HEALTHY: shared.enter_healthy,
        State.SOAKING: shared.enter_soaking,
        State.COMMITTED: shared.enter_committed,
    }


def netboot_of(context: FlashContext) -> Netboot:
    """Return the host's netboot settings. Raises `Refused` for a network that nobody declared trusted."""
    netboot = context.host.netboot
    if netboot is None or not netboot.trusted_network:
        raise Refused(
            f"host {context.host.name}: the network that it boots from is not declared trusted",
            details="over plain PXE whoever is on that network can give the host another installer",
            resolution="set netboot.trusted_network: true if only your own servers answer there, or use another door",
        )
    return netboot


def _preflight(context: FlashContext, deadline_s: float) -> Evidence:
    del deadline_s
    netboot_of(context)
    evidence = shared.verify_image(context)
    with driver_for(context.host.driver) as driver:
        power = driver.power_state()
    return {**evidence, "power": power}


def _drained(context: FlashContext, deadline_s: float) -> Evidence:
    if context.status_or_none() is None:
        return {"drained": "the host runs no agent that answers"}
    return {"drained": context.link.run(context.jobs.simple("drain"), timeout_s=deadline_s)["drained"]}


class _PxeRun:
    """The netboot server and what the agent told so far."""

    def __init__(self) -> None:
        self._events: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self._report: Mapping[str, Any] | None = None
        self._nonce = ""

    def staging(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Serve the installer, boot the host from the network once, and wait for the agent's first word."""
        netboot = netboot_of(context)
        generation = next_generation(context.settings, context.host.name)
        stack = ExitStack()
        context.clean_up.append(stack.close)
        server = stack.enter_context(
            FlashServer(netboot.listen, netboot.port, url=netboot.url, efi_loader=_efi_loader(context))
        )
        bundle = context.bundle.envelope(generation, context.jobs.key)

        def make_job(url: str) -> bytes:
            job = context.jobs.install(context.image, source=url, report=f"{url}/report", bundle=bundle)
            self._nonce = job.nonce
            return json.dumps(job.envelope).encode()

        image = context.image.image
        boot = BootPlan(
            mac=netboot.mac,
            kernel=context.store.open_blob(image.kernel.digest),
            initrd=context.store.open_blob(image.installer.digest),
            root_id=context.jobs.root_id,
            arguments=_INSTALLER_ARGUMENTS,
        )
        stack.enter_context(
            server.serving(Delivery(context.store.open_blob, self._events.put, make_job=make_job, boot=boot))
        )
        context.clean_up.append(lambda: _clear_override(context))
        with driver_for(context.host.driver) as driver:
            override = driver.boot_once(BootSource.PXE)
            driver.power_cycle()
            context.was_powered_off = True
        with context.reporter.step("boot of the installer"):
            first = self._next(deadline_s)
        self._take(first)
        return {
            "override": override.enabled,
            "nonce": self._nonce,
            "generation": generation,
            "first_event": first.get("step", "report"),
        }

    def writing(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Follow the agent until all bytes are written."""
        total = sum(context.image.image.blobs().values())
        deadline = time.monotonic() + deadline_s
        with context.reporter.transfer("write the OS disk", total) as advance:
            while self._report is None:
                event = self._next(deadline - time.monotonic())
                self._take(event)
                if "done_bytes" in event:
                    advance(event["done_bytes"])
                if event.get("step") in ("state", "boot"):
                    break
        return {"written_bytes": total}

    def verified(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Check the agent's report: it read everything back and compared the protected disks."""
        report = self._await_report(context, deadline_s)
        touched = [disk["serial"] for disk in report["protected"] if disk["before"] != disk["after"]]
        if touched:
            raise HostError(f"{context.host.name}: protected disks changed: {', '.join(touched)}")
        return {"protected": report["protected"], "bytes_fetched": report["bytes_fetched"]}

    def armed(self, context: FlashContext, deadline_s: float) -> Evidence:
        """Pin the SSH host key that came with the report; the boot entry is written."""
        report = self._await_report(context, deadline_s)
        pin_host_key(context.settings, context.host.name, report["ssh_host_key"])
        return {"armed_boot_id": report["boot_id"], "ssh_host_key": report["ssh_host_key"]}

    def _await_report(self, context: FlashContext, deadline_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + deadline_s
        while self._report is None:
            self._take(self._next(deadline - time.monotonic()))
        return check_report(dict(self._report), self._nonce, context.host.name)

    def _take(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "report":
            self._report = event

    def _next(self, within_s: float) -> Mapping[str, Any]:
        try:
            return self._events.get(timeout=max(within_s, 0.01))
        except queue.Empty as error:
            raise HostError(
                f"the agent said nothing for {within_s:.0f} s",
                resolution="look at the host's console: did it boot from the network?",
            ) from error


def _rebooting(context: FlashContext, deadline_s: float) -> Evidence:
    _clear_override(context)
    installer = context.journal.evidence("armed_boot_id")
    nonce = context.journal.evidence("nonce")
    with context.reporter.step("boot of the new version"):
        status = context.wait_for_status(
            lambda now: now["boot_id"] != installer and now["nonce"] == nonce,
            within_s=deadline_s,
            what="the boot of the new version",
        )
    return prove_boot(context, status)


def _efi_loader(context: FlashContext) -> Path | None:
    """Return iPXE as a UEFI program, for firmware that boots from HTTP by itself and has no iPXE in its network card."""
    path = context.settings.tools_dir / "usr/lib/ipxe/snponly.efi"
    return path if path.is_file() else None


def _clear_override(context: FlashContext) -> None:
    try:
        with driver_for(context.host.driver) as driver:
            driver.clear_boot_override()
    except QtradeError as error:
        context.reporter.say(f"warning: {error.brief}")
