"""The rescue door: the agent runs in the provider's rescue system, and gets its job and all bytes over SSH."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flash.context import Evidence, FlashContext
from flash.doors import DoorClosed
from flash.doors.boot_watch import BootWatch
from flash.doors.foreign import ForeignLinux, LinuxFacts, reach, reach_before, read_public_key
from flash.doors.installer import Installer, Place
from flash.doors.tunnel import Tunnel, pick_port, tunnel_to
from flash.drivers import RescueMode
from qtrade.errors import QtradeError
from qtrade.redaction import redact

# A system that runs from memory or from the network, so that the disks are nobody's.
_IN_MEMORY = frozenset({"rootfs", "tmpfs", "ramfs", "overlay", "aufs", "squashfs", "nfs", "nfs4"})
_BOOT_S = 900.0


class RescueEntry:
    """Boot the rescue system through the provider's API; with driver `ssh`, somebody has booted it already."""

    def __init__(self) -> None:
        self._port = pick_port()
        self._system: ForeignLinux | None = None

    def check(self, context: FlashContext) -> Evidence:
        """Check the way in. A rescue system that runs already must prove that it is one, and refuse nothing later."""
        if context.host.driver.kind != "ssh":
            with context.driver(RescueMode):
                status = context.status_or_none()
                return {"old_boot_id": status["boot_id"]} if status else {}
        facts = prove_rescue(reach_before(context).read_facts(), context, None)
        return {"runs": "a rescue system", "rescue_boot_id": facts.boot_id, "rescue_root": facts.root}

    def can_repeat(self, context: FlashContext) -> bool:
        """Say whether the provider boots it anew: without one, the agent may be at work in the system that somebody booted."""
        return context.host.driver.kind != "ssh"

    def place(self, context: FlashContext) -> Place:
        """Serve on this machine only: the host reaches it through the SSH connection."""
        del context
        return Place("127.0.0.1", 0, f"http://127.0.0.1:{self._port}", shows_job=False)

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Boot the rescue system, see that it is one, put the agent there and let it work."""
        system, facts = self._boot(context)
        self._system = system
        with context.reporter.step("send the agent"):
            system.upload(context, installer.job)
        tunnel = tunnel_to(installer.server, self._port)
        start_agent(system, context.jobs.root_id, tunnel, installer.tell)
        return {"rescue_boot_id": facts.boot_id, "rescue_root": facts.root}

    def leave(self, context: FlashContext) -> None:
        """Let the host boot from its disk, and restart it; providers do so by themselves when rescue mode ends."""
        leave_rescue(context)
        if self._system is None:
            self._system = reach_before(context)
        with suppress(QtradeError):
            if self._system.read_facts().boot_id == context.journal.evidence("rescue_boot_id"):
                self._system.reboot()

    def _boot(self, context: FlashContext) -> tuple[ForeignLinux, LinuxFacts]:
        if context.host.driver.kind == "ssh":
            system = reach_before(context)
            return system, prove_rescue(system.read_facts(), context, None)
        context.clean_up.append(lambda: leave_rescue(context))
        public_key = read_public_key(context)
        watch = BootWatch(context, context.left_boot_id)
        with context.reporter.step("boot of the rescue system"):
            with context.driver(RescueMode) as driver:
                login = driver.enter_rescue(public_key)
            system = reach(context, login)
            old = context.journal.evidence("old_boot_id")
            facts = system.wait_until(
                lambda now: now.boot_id != old and _is_rescue(now),
                within_s=_BOOT_S,
                what="the rescue system",
                look=watch.look,
            )
        return system, prove_rescue(facts, context, old)


def prove_rescue(facts: LinuxFacts, context: FlashContext, old_boot_id: str | None) -> LinuxFacts:
    """Return the facts of a system that runs from memory and not from the host's disks. Raises `DoorClosed` for any other."""
    name = context.host.name
    if not _is_rescue(facts) or facts.boot_id == old_boot_id:
        what = "an image of qtrade" if facts.is_ours else f"a system whose root is on {facts.root or 'nothing known'}"
        raise DoorClosed(
            f"{name} does not run a rescue system: SSH answers, but from {what}",
            resolution="boot the rescue system, or use the kexec door",
        )
    if facts.lacks:
        raise DoorClosed(
            f"the rescue system of {name} (Linux {facts.release}) knows no {', '.join(facts.lacks)}",
            details="the agent could not write the OS disk or read the image there",
            resolution="use the kexec door, which starts our own installer from it, or choose a newer rescue system",
        )
    return facts


def _is_rescue(facts: LinuxFacts) -> bool:
    return facts.root in _IN_MEMORY and not facts.is_ours


def start_agent(system: ForeignLinux, root_id: str, tunnel: Tunnel, tell: Callable[[dict[str, Any]], None]) -> None:
    """Let the agent install the host. Its events come by HTTP through the tunnel; what kept it from sending them comes to `tell`."""

    def work() -> None:
        said: list[str] = []
        errors: list[dict[str, Any]] = []
        reported = False

        def take(event: dict[str, Any]) -> None:
            nonlocal reported
            reported |= event.get("event") == "report"
            if event.get("event") == "error":
                errors.append(event)

        try:
            code, stderr = system.stream_agent("install", root_id, tunnel, take)
            said.append(f"code {code}: {redact(stderr[-500:])}")
        except QtradeError as error:
            said.append(f"{error.brief} {error.details}".strip())
        if not reported:
            lost = {"code": "agent-lost", "message": f"the agent ended without a report ({said[0]})"}
            tell(errors[0] if errors else {"event": "error", "error": lost})

    threading.Thread(target=work, name="rescue", daemon=True).start()


def leave_rescue(context: FlashContext) -> None:
    """Have the provider start the host from its disk again; one that does not let it is warned about."""
    if context.host.driver.kind == "ssh":
        return
    try:
        with context.driver(RescueMode) as driver:
            driver.leave_rescue()
    except QtradeError as error:
        context.reporter.say(f"warning: {error.brief}")
