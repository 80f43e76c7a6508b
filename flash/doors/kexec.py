"""The kexec door: the system that runs starts the installer itself, without the host's firmware.

The job goes along in memory: neither it nor its nonce crosses the network that the installer then gets its blobs from.
"""

from flash.agent.kexec import JOB_PATH
from flash.context import Evidence, FlashContext
from flash.doors import DoorClosed
from flash.doors.foreign import ForeignLinux, reach_before
from flash.doors.installer import Installer, Place
from flash.doors.pxe import netboot_place
from flash.doors.tunnel import tunnel_to
from flash.jobs import SignedJob
from qtrade.errors import HostError

_JOB_URL = f"file:///{JOB_PATH}"
_TIMEOUT_S = 600.0


class KexecEntry:
    """Start the installer from our own running system through its agent, or from another Linux as its root."""

    def __init__(self) -> None:
        self._foreign: ForeignLinux | None = None
        self._checked: Evidence = {}

    def check(self, context: FlashContext) -> Evidence:
        """Ask the running system whether it can: locked down kernels and Secure Boot cannot, and nothing has been stopped yet."""
        self._checked = self._check(context)
        return self._checked

    def _check(self, context: FlashContext) -> Evidence:
        status = context.status_or_none()
        if status is None:
            self._foreign = reach_before(context)
            facts = self._foreign.read_facts()
            self._foreign.refuse_ours(facts)
            return {"runs": f"another Linux ({facts.release})", "old_boot_id": facts.boot_id, "way": "ssh"}
        reason = status.get("kexec_refusal", "its agent is of an older version and does not know kexec")
        if reason:
            raise DoorClosed(
                f"{context.host.name} cannot start the installer by kexec: {reason}",
                resolution="use another door; nothing was stopped",
            )
        return {"runs": "", "old_boot_id": status["boot_id"], "way": "agent"}

    def can_repeat(self, context: FlashContext) -> bool:
        """Once only: the system that starts the installer is gone then."""
        del context
        return False

    def place(self, context: FlashContext) -> Place:
        """Serve as the host's netboot settings say, but not the job."""
        if context.host.netboot is None:
            raise DoorClosed(f"host {context.host.name}: door kexec needs netboot")
        return netboot_place(context.host.netboot, shows_job=False)

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Load the installer, and let the running system go down."""
        if self._checked["way"] == "ssh":
            foreign = self._foreign or reach_before(context)
            return start_from(foreign, context, installer)
        tunnel = tunnel_to(installer.server)
        job = make_kexec_job(context, installer, f"{tunnel.url}/{installer.served.token}")
        with context.reporter.step("load the installer"):
            report = context.link.run(job, timeout_s=_TIMEOUT_S, forward=tunnel.forward)
        if report["boot_id"] != self._checked["old_boot_id"]:
            raise HostError(f"{context.host.name} was rebooted since it was asked whether it can start the installer")
        return {"loaded": report["loaded"]}

    def leave(self, context: FlashContext) -> None:
        """Nothing was set that would have to be taken back: the firmware was never asked."""


def make_kexec_job(context: FlashContext, installer: Installer, source: str) -> SignedJob:
    """Return the job that starts the installer, which comes from `source`, with the flash's own job in it."""
    cmdline = installer.boot.command_line(_JOB_URL)
    return context.jobs.kexec(context.image, installer.job, source=source, cmdline=cmdline)


def start_from(foreign: ForeignLinux, context: FlashContext, installer: Installer) -> Evidence:
    """Start the installer from a Linux that is not ours. Raises `HostError`."""
    tunnel = tunnel_to(installer.server)
    job = make_kexec_job(context, installer, f"{tunnel.url}/{installer.served.token}")
    with context.reporter.step("load the installer"):
        foreign.upload(context, job)
        report = foreign.start_kexec(context.jobs.root_id, job, tunnel)
    return {"loaded": report["loaded"], "kexec_boot_id": report["boot_id"]}
