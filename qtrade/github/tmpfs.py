"""Secrets of a job as files, in memory only: a folder of mode 700 on tmpfs that the job's last step removes."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qtrade import process
from qtrade.errors import BadInput, Refused
from qtrade.redaction import register_secret

PREFIX = "QTRADE_SECRET_"
FOLDER = "QTRADE_SECRETS_DIR"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - tmpfs on every Linux; looked at before use
_IN_MEMORY = ("tmpfs", "ramfs")
# Variable -> file below the folder, and the variables that tell qtrade where it is.
_KEYS = "keys"
_FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "SSH_KEY": ("ssh-key", ("QTRADE_DEPLOY_IDENTITY", "QTRADE_SSH_IDENTITY")),
    "VAULT_PASSWORD": ("vault-password", ("ANSIBLE_VAULT_PASSWORD_FILE",)),
    "BUILD_KEY": (f"{_KEYS}/build.key", ()),
    "PROMOTE_KEY": (f"{_KEYS}/promote.key", ()),
    "JOB_KEY": (f"{_KEYS}/job.key", ()),
    "TRUST_SET": (f"{_KEYS}/trust.json", ()),
    "ROOT": (f"{_KEYS}/root.pem", ()),
}
_PUBLIC = {"TRUST_SET", "ROOT"}


def given_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that a step was given, by name, redacted from now on; what is empty was not given. Raises `BadInput`."""
    found = {
        name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX) and value
    }
    unknown = sorted(set(found) - set(_FILES))
    if unknown:
        raise BadInput(
            f"{PREFIX}{unknown[0]} is unknown", resolution=f"use {', '.join(PREFIX + name for name in _FILES)}"
        )
    for value in found.values():
        register_secret(value)
    return found


def hide_kept(folder: Path) -> None:
    """Redact from now on what an earlier step of the job has put into the folder."""
    for name in _FILES.keys() - _PUBLIC:
        path = folder / _FILES[name][0]
        if path.is_file():
            register_secret(path.read_text())


def make_folder(parent: Path = SHARED_MEMORY) -> Path:
    """Make the folder. Raises `Refused` where it would be on a disk."""
    kind = filesystem_of(parent)
    if kind not in _IN_MEMORY:
        raise Refused(
            f"{parent} is {kind}, not tmpfs: secrets would be written to a disk", resolution="mount a tmpfs there"
        )
    return Path(tempfile.mkdtemp(prefix="qtrade-", dir=parent))


def put_secrets(folder: Path, secrets: Mapping[str, str]) -> dict[str, str]:
    """Write the secrets, mode 600, and return the variables that tell where they are. Raises `ToolError` for a key that is none."""
    told: dict[str, str] = {}
    for name, value in secrets.items():
        where, variables = _FILES[name]
        path = folder / where
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # A key that was pasted may have lost its last line break, which OpenSSH wants.
        _write(path, value if name == "VAULT_PASSWORD" else value.strip() + "\n")
        told |= dict.fromkeys(variables, str(path))
        if path.parent != folder:
            told["QTRADE_KEYS_DIR"] = str(path.parent)
    if "SSH_KEY" in secrets:
        public = process.run(["ssh-keygen", "-y", "-P", "", "-f", folder / "ssh-key"])
        _write(folder / "ssh-key.pub", public.stdout)
    return told


def remove_folder(folder: Path, parent: Path = SHARED_MEMORY) -> bool:
    """Remove the folder of `make_folder`; say whether it was there. Raises `Refused` for any other."""
    if folder.parent != parent or not folder.name.startswith("qtrade-") or folder.is_symlink():
        raise Refused(f"{folder} is no folder of secrets", resolution=f"remove folders {parent}/qtrade-* only")
    if not folder.is_dir():
        return False
    shutil.rmtree(folder)
    return True


def filesystem_of(path: Path) -> str:
    """Return the kind of the file system that a path is on, by the kernel's table of mounts."""
    real, best, kind = path.resolve(), Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, found = line.split()[:3]
        place = Path(where.replace("\\040", " "))
        if real.is_relative_to(place) and len(place.parts) >= len(best.parts):
            best, kind = place, found
    return kind


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as sink:
        sink.write(text)
