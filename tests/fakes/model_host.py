"""A host as a file: what its agent does to it is kept there, so that it outlives the process that asked for it.

It runs no bytes of an image; what each job does, and what boots next, follow docs/architecture.md. `tick` is called before and
after whatever changes the host. An installer writes while the controller lives: what it has begun when that dies, stays half done.
"""

import base64
import json
import threading
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flash.agent.report import sign_report
from flash.context import Evidence, FlashContext
from flash.doors.foreign import LinuxFacts
from flash.doors.installer import Installer, Place
from flash.doors.pxe import netboot_place
from flash.doors.tunnel import Tunnel
from flash.drivers import PowerControl, PowerState, RescueLogin
from flash.jobs import SignedJob
from qtrade.errors import HostError, Refused

OLD = "0" * 64
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIModel model"
DISK, INSTALLER, RESCUE = "disk", "installer", "rescue"


def new_host() -> dict[str, Any]:
    """Return a host that runs the image `OLD`.

    `at` is what it has booted; `half` says that its disk boots nothing; `torn` counts how often it went down with its services running.
    """
    return {
        "image": OLD, "default": OLD, "previous": "", "once": "", "boot": 1, "installed": [OLD], "services": True, "nonce": "",
        "generations": {OLD: "1"}, "lease": 0, "drains": 0, "installs": 0, "at": DISK, "half": False, "torn": 0, "halves": 0,
        "locked": True,
    }  # fmt: skip


@dataclass
class ModelHost:
    """The link to the host in the file `path`. `job` is what the installer was given, as long as the controller lives."""

    path: Path
    tick: Callable[[str], None]
    job: dict[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    def change(self, what: str, **facts: Any) -> None:
        """Change facts at once, as a host does that may lose its controller at any time, but not a half of a job."""
        self.tick(f"before {what}")
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({**self.facts, **facts}))
        fresh.replace(self.path)
        self.tick(f"after {what}")

    def status(self, *, timeout_s: float = 60) -> Evidence:
        facts = self.facts
        if facts["at"] != DISK or facts["half"]:
            raise HostError("the host does not answer")
        return {
            "boot_id": f"boot-{facts['boot']}", "version": facts["image"][:8], "state": "persistent", "verified": "fs-verity",
            "generation": facts["generations"][facts["image"]], "sequence": 0, "failed_boots": 0, "kexec_refusal": "",
            **{name: facts[name] for name in ("image", "default", "previous", "once", "installed", "nonce")},
        }  # fmt: skip

    def wait_for_status(self, accept: Callable[[Evidence], bool], *, within_s: float, what: str) -> Evidence:
        status = self.status()
        if not accept(status):
            raise HostError(f"{what} did not happen within {within_s:.0f} s", details=str(status))
        return status

    def disconnect(self) -> None:
        self.tick("disconnect")

    def run(self, job: SignedJob, **options: Any) -> Evidence:
        """Do a job as the agent would; only what a flash sends."""
        fields = json.loads(base64.b64decode(job.envelope["payload"]))
        if fields["lease"] < self.facts["lease"]:
            raise HostError("the job comes from an earlier holder")
        kind, facts = fields["kind"], {**self.facts, "lease": fields["lease"]}
        report: Evidence = {}
        if kind == "stage":
            facts["installed"] = sorted({*facts["installed"], fields["image"]["id"]})
            facts["generations"][fields["image"]["id"]] = str(_generation(fields))
            report = {"bytes_fetched": 1, "blobs_fetched": [], "protected": _untouched(fields)}
        elif kind in ("drain", "undrain"):
            facts |= {"services": kind == "undrain", "drains": facts["drains"] + (kind == "drain")}
            report = {"drained": ["50-agave"]} if kind == "drain" else {}
        elif kind == "arm":
            facts |= {"once": fields["image_id"], "nonce": job.nonce}
        elif kind == "reboot":
            facts |= boot(facts)
        elif kind == "kexec":
            report = {"loaded": "installer", "boot_id": f"boot-{facts['boot']}"}
            self.leave_disk(INSTALLER, lease=facts["lease"])
            self.begin_install(json.loads(base64.b64decode(fields["boot"]["job"]["payload"])))
            return report
        elif kind == "commit" and facts["image"] == fields["image_id"] != facts["default"]:
            facts |= {"default": fields["image_id"], "previous": facts["default"]}
        elif kind != "commit":
            raise HostError(f"the model does no {kind}")
        self.change(kind, **facts)
        return report

    def leave_disk(self, to: str, **facts: Any) -> None:
        """Boot something else than the disk; the validator is to be stopped before."""
        now = self.facts
        torn = now["torn"] + (now["at"] == DISK and now["services"])
        self.change(f"boot of the {to}", at=to, boot=now["boot"] + 1, services=False, torn=torn, **facts)

    def begin_install(self, job: dict[str, Any]) -> None:
        """Take the job of an installer, and say so."""
        self.job = job
        self._tell({"event": "progress", "step": "begin"})

    def carry_on(self) -> None:
        """Write the disk, and boot from it: what the installer does while the controller follows it."""
        image, facts = self.job["image"]["id"], self.facts
        self._tell({"event": "progress", "step": "partition"})
        self.change("half of the installation", half=True, halves=facts["halves"] + 1)
        self.change(
            "install", image=image, default=image, previous="", installed=[image], nonce=self.job["nonce"], half=False,
            generations={image: str(_generation(self.job))}, installs=facts["installs"] + 1,
        )  # fmt: skip
        self._tell({"event": "progress", "step": "boot"})
        report = {
            "event": "report", "ok": True, "nonce": self.job["nonce"], "protected": _untouched(self.job), "bytes_fetched": 1,
            "ssh_host_key": KEY, "boot_id": f"boot-{facts['boot']}",
        }  # fmt: skip
        self._tell(sign_report(report, self.job["nonce"]))
        # A rescue system is left when the controller says so.
        if facts["at"] == INSTALLER:
            self.change("boot of the new version", **boot(self.facts))

    def _tell(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        urllib.request.urlopen(urllib.request.Request(self.job["report"], data=line), timeout=10).close()


def boot(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a boot from the disk changes: once what was armed for once, else the default."""
    return {
        "boot": facts["boot"] + 1, "image": facts["once"] or facts["default"], "once": "", "services": True, "at": DISK,
    }  # fmt: skip


def _generation(fields: Mapping[str, Any]) -> int:
    return int(json.loads(base64.b64decode(fields["bundle"]["payload"]))["generation"])


def _untouched(fields: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the no-touch proof of a host that leaves all its protected disks as they were."""
    return [{"serial": disk["serial"], "before": "same", "after": "same"} for disk in fields["protected"]]


@dataclass
class ModelEntry:
    """A way into the installer of a `ModelHost` that needs nothing of what runs there."""

    host: ModelHost

    def check(self, context: FlashContext) -> Evidence:
        return {"power": "On"}

    def can_repeat(self, context: FlashContext) -> bool:
        return True

    def place(self, context: FlashContext) -> Place:
        return netboot_place(context.host.netboot, asks_by_mac=True)

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        assert installer.served.job is not None
        with context.driver(PowerControl) as power:
            power.power_cycle()
        self.host.begin_install(json.loads(base64.b64decode(json.loads(installer.served.job)["payload"])))
        return {"override": "Once"}

    def leave(self, context: FlashContext) -> None:
        """The installer boots from the disk by itself."""


@dataclass
class ModelProvider:
    """The provider's API, as a driver: power, a rescue system, and a lock that is on before and must be on in the end."""

    host: ModelHost

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def power_state(self) -> PowerState:
        return PowerState.ON

    def power_on(self) -> None:
        """Nothing happens: it is on."""

    def power_off(self) -> None:
        raise HostError("nobody switches this host off")

    def power_cycle(self) -> None:
        self._require_unlocked()
        self.host.leave_disk(INSTALLER)

    def enter_rescue(self, public_key: str) -> RescueLogin:
        self._require_unlocked()
        self.host.leave_disk(RESCUE)
        return RescueLogin("root")

    def leave_rescue(self) -> None:
        self._require_unlocked()
        self.host.tick("leave rescue mode")

    def is_locked(self) -> bool:
        return bool(self.host.facts["locked"])

    def lock(self) -> None:
        if not self.is_locked():
            self.host.change("the provider's lock", locked=True)

    def unlock(self) -> None:
        if self.is_locked():
            self.host.change("the end of the provider's lock", locked=False)

    def _require_unlocked(self) -> None:
        if self.is_locked():
            raise Refused("the host is locked at its provider")


@dataclass
class ModelRescue:
    """A shell on the rescue system of a `ModelHost`."""

    host: ModelHost
    sent: list[dict[str, Any]] = field(default_factory=list)

    def read_facts(self) -> LinuxFacts:
        facts = self.host.facts
        if facts["at"] != RESCUE:
            raise HostError("no shell answers")
        return LinuxFacts(
            f"boot-{facts['boot']}", "rootfs", "6.12", is_ours=False, filesystems=frozenset({"ext4", "vfat", "erofs"})
        )

    def wait_until(self, accept: Callable[[LinuxFacts], bool], **_: Any) -> LinuxFacts:
        facts = self.read_facts()
        assert accept(facts)
        return facts

    def upload(self, context: FlashContext, job: SignedJob) -> None:
        self.host.tick("upload of the agent")
        self.sent.append(json.loads(base64.b64decode(job.envelope["payload"])))

    def stream_agent(
        self, verb: str, root_id: str, tunnel: Tunnel, on_event: Callable[[dict[str, Any]], None]
    ) -> tuple[int, str]:
        assert verb == "install"
        self.host.begin_install(self.sent[-1])
        on_event({"event": "report"})
        threading.Event().wait(0.01)
        return 0, ""

    def reboot(self) -> None:
        self.host.change("boot of the new version", **boot(self.host.facts))
