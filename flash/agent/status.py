"""The state of a running host in one JSON object."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Dict, List

from . import admission, boot, credentials, images, kexec, pushes, reboots, trial
from .config import assigned_generations, current_generation, settled_generations
from .errors import AgentError
from .host import Host
from .trust import read_held

_SHOWN = 200
_WRITTEN = "qtrade-written-by.json"
_NOTE_CHARACTERS = 1000
_CONTRACT = re.compile(r"-- contract after (\d+\.\d+\.\d+): ")


def read_status(host: Host) -> Dict[str, Any]:
    """Return what the host runs, what it would boot, and what stands in its upper directory."""
    changed = list_changes(host.run / "rw/upper")
    return {
        **read_running(host),
        "installed": images.installed(host.system),
        "ssh_host_key": host.ssh_host_key(),
        "upper_entries": len(changed),
        "upper": changed[:_SHOWN],
        "kexec_refusal": kexec.refusal(),
        "data": read_data(host.mnt),
        "contracts": read_contracts(host.root),
        **_read_trust(host),
        **_read_boot(host),
    }


def read_running(host: Host) -> Dict[str, Any]:
    """Return what the host runs, with which config: what a push asks for, without a look at the disk or at signatures."""
    facts = host.boot_facts()
    return {
        "host": host.name,
        # What agents of the first images do not say is all that they know.
        "verbs": ["confirm"],
        "image": facts["image"],
        "version": images.read_version(host.system, facts["image"]),
        "verified": facts["verified"],
        "state": facts["state"],
        "config": facts.get("config", ""),
        "boot_id": host.boot_id,
        "nonce": _read(host.state / "host/nonce"),
        "generation": current_generation(host.config),
        "generations": assigned_generations(host.config),
        **_read_pushes(host),
    }


def list_changes(upper: Path) -> List[str]:
    """Return everything in the upper directory but directories: what was changed since the boot. `-` marks a deletion."""
    found = []
    for folder, _, names in os.walk(upper):
        for name in names:
            path = Path(folder) / name
            status = path.lstat()
            is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            found.append(("-" if is_whiteout else "") + str(path.relative_to(upper)))
    return sorted(found)


def read_data(mnt: Path) -> Dict[str, str]:
    """Return which version of a program wrote the data on the disks, by program, as the programs' starters noted it beside the data."""
    found = {}
    for path in sorted(mnt.glob("*/" + _WRITTEN)):
        try:
            # Another user's file: a regular one, and not a long one.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as stream:
                note = json.loads(stream.read(_NOTE_CHARACTERS))
            program, version = note["program"], note["version"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(program, str) and isinstance(version, str):
            found[program] = version
    return found


def read_contracts(root: Path) -> Dict[str, str]:
    """Return, by role, the last version that still reads what the running image's migrations have taken away.

    A migration says so in its first line: `-- contract after 1.2.3: why` (role postgres, migrate.py).
    """
    found: Dict[str, str] = {}
    for path in sorted(root.glob("usr/share/qtrade/*/migrations/*.sql")):
        with path.open(errors="replace") as stream:
            match = _CONTRACT.match(stream.readline(_NOTE_CHARACTERS))
        role = path.parent.parent.name
        if match and _numbers(match.group(1)) >= _numbers(found.get(role, "0.0.0")):
            found[role] = match.group(1)
    return found


def _numbers(version: str) -> List[int]:
    return [int(part) for part in version.split(".")]


def _read_pushes(host: Host) -> Dict[str, Any]:
    """Return what a push asks for: the generations to go back to, what is on trial or was taken back, what waits for a reboot."""
    ground = pushes.ground_of(host)
    on_trial = trial.read_trial(ground)
    return {
        "kept": settled_generations(host.config),
        "trial": on_trial.generation if on_trial else "",
        "reverted": trial.read_reverted(ground),
        "reboot_needed": reboots.waiting(ground.booted, ground.config, ground.inputs),
        "secret_stamps": credentials.stamps(host.state / "credstore"),
    }


def _read_boot(host: Host) -> Dict[str, Any]:
    try:
        with host.esp_shown() as esp:
            state = boot.read_state(esp)
    except AgentError as error:
        return {"default": "", "previous": "", "once": "", "failed_boots": 0, "boot_error": str(error)}
    return {"default": state.default, "previous": state.previous, "once": state.once, "failed_boots": state.tries}


def _read_trust(host: Host) -> Dict[str, Any]:
    environment = admission.read_environment(host.system)
    try:
        held = read_held(host.system)
    except AgentError as error:
        return {"environment": environment, "trust": 0, "trust_error": str(error), "sequence": 0}
    sequence = admission.sequence_of(host.system, host.image_id, held)
    return {"environment": environment, "trust": held.sequence, "trust_expires": held.expires, "sequence": sequence}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
