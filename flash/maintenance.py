"""What a host's installer does besides installing: blank data disks are formatted, a host that is given up is wiped."""

import getpass
import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flash.context import Evidence, FlashContext
from flash.doors.installer import InstallerRun, drain
from flash.doors.table import entry_for
from flash.identity.guard import refuse_holder
from flash.jobs import SignedJob
from flash.lease import lease
from flash.provider_lock import unlocked
from flash.ssh import known_hosts_path
from flash.states import State, rules
from qtrade.errors import BadInput, QtradeError, Refused
from qtrade.manifest.driver import Door

PREPARE_DISKS, DECOMMISSION = "prepare_disks", "decommission"


@dataclass(frozen=True)
class Errand:
    """How it ended: the agent's facts, and the file that keeps them."""

    host: str
    kind: str
    evidence: Evidence
    record: str


def choose_door(context: FlashContext, door: Door | None) -> Door:
    """Return the door to go through: the first that boots the installer and leaves the disks alone. Raises `Refused`."""
    able = [one for one in context.host.doors if one not in (Door.IN_PLACE, Door.PROVIDER_REINSTALL)]
    chosen = door or next(iter(able), None)
    if chosen is None or chosen not in able:
        raise Refused(
            f"{context.host.name} has no door that boots the installer" + (f" called {door}" if door else ""),
            details=f"its doors: {', '.join(context.host.doors)}",
            resolution="add one, such as kexec or pxe, to its manifest",
        )
    return chosen


def prepare_disks(context: FlashContext, door: Door) -> Errand:
    """Format the blank ones of the host's data disks, ext4 with the UUIDs of the manifest.

    Raises `BadInput` when a UUID is missing, `HostError` when a disk is not blank; then none was written.
    """
    missing = [disk.mount for disk in context.host.data_disks if disk.fs_uuid is None]
    if not context.host.data_disks or missing:
        raise BadInput(
            f"host {context.host.name}: data_disks {'for ' + ', '.join(missing) if missing else 'are none'}: no fs_uuid",
            resolution="give each data disk an fs_uuid; `uuidgen` makes one",
        )
    return _carry_out(context, door, PREPARE_DISKS)


def decommission(context: FlashContext, door: Door) -> Errand:
    """Wipe state and secrets of a host, forget its keys, and let the store collect what only it kept. Raises `HostError`."""
    done = _carry_out(context, door, DECOMMISSION)
    known_hosts_path(context.settings, context.host.name).unlink(missing_ok=True)
    context.store.set_host_images(context.host.name, ())
    return done


def _carry_out(context: FlashContext, door: Door, kind: str) -> Errand:
    def make_job(context: FlashContext, url: str, generation: int) -> SignedJob:
        del generation
        return context.jobs.errand(kind, image=context.image.image, report=f"{url}/report")

    entry = entry_for(door)
    run = InstallerRun(entry, make_job)
    with lease(context.settings, context.store, context.host.name, context.reporter) as held:
        refuse_holder(context.store, context.host.name)
        context.token, context.check_held = held.token, held.check
        with unlocked(context):
            try:
                entry.check(context)
                drain(context, rules(door, State.DRAINED).deadline_s)
                run.staging(context, rules(door, State.STAGING).deadline_s)
                with context.reporter.step(kind.replace("_", " ")):
                    report = run.await_report(context, rules(door, State.WRITING).deadline_s)
                entry.leave(context)
            finally:
                for action in reversed(context.clean_up):
                    with suppress(OSError, QtradeError):
                        action()
    evidence: Evidence = {
        name: report[name] for name in ("formatted", "wiped_bytes", "protected", "boot_id") if name in report
    }
    return Errand(context.host.name, kind, evidence, str(_write_record(context, kind, evidence)))


def _write_record(context: FlashContext, kind: str, evidence: Evidence) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = context.settings.state_dir / "flashes" / context.host.name / f"{stamp}-{kind}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    path.write_text(json.dumps({"schema_version": 1, "kind": kind, "by": who, "at": time.time(), **evidence}) + "\n")
    return path
