"""A host as a file: what its agent does to it is kept there, so that it outlives the process that asked for it.

It runs no bytes of an image; what each job does, and what boots next, follow docs/architecture.md. `tick` is called before and
after whatever changes the host.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash.agent.report import sign_report
from flash.context import Evidence, FlashContext
from flash.doors.installer import Installer, Place
from flash.doors.pxe import netboot_place
from flash.jobs import SignedJob
from qtrade.errors import HostError

OLD = "0" * 64
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIModel model"


def new_host() -> dict[str, Any]:
    """Return a host that runs the image `OLD`."""
    return {
        "image": OLD, "default": OLD, "previous": "", "once": "", "boot": 1, "installed": [OLD], "services": True, "nonce": "",
        "generations": {OLD: "1"}, "lease": 0, "drains": 0, "installs": 0,
    }  # fmt: skip


@dataclass
class ModelHost:
    """The link to the host in the file `path`."""

    path: Path
    tick: Callable[[str], None]

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
        return {
            "boot_id": f"boot-{facts['boot']}", "version": facts["image"][:8], "state": "persistent", "verified": "fs-verity",
            "generation": facts["generations"][facts["image"]], "sequence": 0, "failed_boots": 0,
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
        elif kind == "commit" and facts["image"] == fields["image_id"] != facts["default"]:
            facts |= {"default": fields["image_id"], "previous": facts["default"]}
        elif kind != "commit":
            raise HostError(f"the model does no {kind}")
        self.change(kind, **facts)
        return report


def boot(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a boot changes: once what was armed for once, else the default."""
    return {"boot": facts["boot"] + 1, "image": facts["once"] or facts["default"], "once": "", "services": True}


def _generation(fields: Mapping[str, Any]) -> int:
    return int(json.loads(base64.b64decode(fields["bundle"]["payload"]))["generation"])


def _untouched(fields: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the no-touch proof of a host that leaves all its protected disks as they were."""
    return [{"serial": disk["serial"], "before": "same", "after": "same"} for disk in fields["protected"]]


@dataclass
class ModelEntry:
    """A way into the installer of a `ModelHost`, which writes its disk while the controller lives."""

    host: ModelHost

    def check(self, context: FlashContext) -> Evidence:
        return {"power": "On"}

    def place(self, context: FlashContext) -> Place:
        return netboot_place(context.host.netboot, asks_by_mac=True)

    def enter(self, context: FlashContext, installer: Installer) -> Evidence:
        """Switch the host off and on into the installer, and tell all that its agent tells."""
        facts = self.host.facts
        assert installer.served.job is not None
        fields = json.loads(base64.b64decode(json.loads(installer.served.job)["payload"]))
        image = fields["image"]["id"]
        self.host.change("boot of the installer", boot=facts["boot"] + 1, services=False)
        installer.tell({"event": "progress", "step": "begin"})
        # From here on nothing of the old version is left, and a boot finds the new one.
        self.host.change(
            "install", image=image, default=image, previous="", installed=[image], nonce=fields["nonce"],
            generations={image: str(_generation(fields))}, installs=facts["installs"] + 1,
        )  # fmt: skip
        installer.tell({"event": "progress", "step": "boot"})
        report = {
            "event": "report", "ok": True, "nonce": fields["nonce"], "protected": _untouched(fields), "bytes_fetched": 1,
            "ssh_host_key": KEY, "boot_id": f"boot-{facts['boot'] + 1}",
        }  # fmt: skip
        installer.tell(sign_report(report, fields["nonce"]))
        return {"override": "Once"}

    def leave(self, context: FlashContext) -> None:
        """Boot from the disk, as the installer does by itself."""
        self.host.change("boot of the new version", **boot(self.host.facts))
