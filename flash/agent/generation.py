"""The config generation that the host runs, as it lies on the state partition, and what else lies there that nobody pushed."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from typing import Any, Dict, List

_OWN = (".bundle.json", ".image", ".sums")
# What the initramfs, the installer and the agent keep on the state partition.
_STATE = {"var", "config", "host", "credstore", "credstore.before", "agent", "lost+found"}
_HOST = {"machine-id", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "nonce", "hostname"}


def read_generation(state: Path) -> Dict[str, Any]:
    """Return `generation`, `image`, the digest and `files` of the bundle as it was signed, and the files as they are (`found`).

    Files are `path -> {sha256, mode, owner}`; owners are ids in `found`, and what the bundle says in `files`.
    """
    config = state / "config"
    current = config / "current"
    folder = config / current.readlink() if current.is_symlink() else current
    envelope = _json(folder / ".bundle.json")
    try:
        payload = json.loads(base64.b64decode(envelope["payload"]))
        signed = {
            one["path"]: {
                "sha256": hashlib.sha256(base64.b64decode(one["content"])).hexdigest(),
                "mode": f"{int(one['mode'], 8):04o}",
                "owner": f"{one['owner']}:{one['group']}",
            }
            for one in payload["files"]
        }
    except (KeyError, TypeError, ValueError):
        payload, signed = {}, {}
    return {
        "generation": folder.name if current.is_symlink() else "",
        "image": str(payload.get("image", "")),
        "signed_generation": str(payload.get("generation", "")),
        "signed": signed,
        "found": _read_files(folder) if folder.is_dir() else {},
        "assigned": {link.name: link.readlink().name for link in _links(config / "by-image")},
        "credentials": _foreign(state / "credstore", ()),
        "foreign": _foreign(state, _STATE) + [f"host/{name}" for name in _foreign(state / "host", _HOST)],
    }


def _read_files(folder: Path) -> Dict[str, Dict[str, str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode) or name in _OWN:
            continue
        is_file = stat.S_ISREG(status.st_mode)
        found[name] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "no regular file",
            "mode": f"{stat.S_IMODE(status.st_mode):04o}",
            "owner": f"{status.st_uid}:{status.st_gid}",
        }
    return found


def _links(folder: Path) -> List[Path]:
    return sorted(path for path in folder.glob("*") if path.is_symlink()) if folder.is_dir() else []


def _foreign(folder: Path, known: Any) -> List[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.is_dir() else []


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
