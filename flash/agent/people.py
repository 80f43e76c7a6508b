"""Who may log in to the running host and what runs in their name: accounts, sudo, SSH keys, cron spools, beside what the image says."""

import base64
import hashlib
import struct
from pathlib import Path
from typing import Any, Dict, List, Optional

from .lower import Lower

_KEY_FILES = ("authorized_keys", "authorized_keys2", "rc")
_SPOOLS = ("spool/cron/crontabs", "spool/cron/atjobs", "spool/cron/atspool", "spool/anacron", "spool/at")
_ARMOUR = ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----")
_MAGIC = b"openssh-key-v1\0"


def read_accounts(etc: Path, lower: Lower) -> Dict[str, Any]:
    """Return users and groups as the image has them (`declared`) and as they are (`found`). Of passwords only the kind is told."""
    names = ("passwd", "group", "shadow")
    declared = {name: lower.read(f"etc/{name}") or "" for name in names}
    found = {name: _text(etc / name) for name in names}
    return {"declared": _parse_accounts(declared), "found": _parse_accounts(found)}


def read_sudo(etc: Path, lower: Lower) -> Dict[str, Any]:
    """Return SHA-256, mode and owner of every file that sudo reads, in the image and now."""
    names = sorted(path.name for path in (etc / "sudoers.d").glob("*"))
    paths = ["etc/sudoers", *(f"etc/sudoers.d/{name}" for name in lower.names("etc/sudoers.d"))]
    live = ["etc/sudoers", *(f"etc/sudoers.d/{name}" for name in names)]
    return {
        "declared": {path: _seal(lower.find(path)) for path in paths},
        "found": {path: _seal(etc / path[4:]) for path in live if (etc / path[4:]).is_file()},
    }


def read_ssh(root: Path, state: Path, passwd: str) -> Dict[str, Any]:
    """Return the public half of the host's private key, and key files in home folders, which sshd is not to read.

    `host_key` is read from the private key itself: a `.pub` beside it may be of another.
    """
    private = state / "host/ssh_host_ed25519_key"
    homes = sorted({line.split(":")[5] for line in passwd.splitlines() if line.count(":") >= 6})
    places = [root / home.lstrip("/") / ".ssh" / name for home in homes if home not in ("", "/") for name in _KEY_FILES]
    return {
        "host_key": public_half(private),
        "host_key_file": " ".join(_text(private.with_suffix(".pub")).split()[:2]),
        "home_keys": {
            f"/{place.relative_to(root)}": len(_text(place).splitlines()) for place in places if place.is_file()
        },
    }


def read_spools(root: Path, passwd: str) -> List[str]:
    """Return what is to run by itself and lies in /var or in a home: crontabs, at jobs, users whose units run without a login."""
    var = root / "var"
    found = [path for spool in _SPOOLS for path in (var / spool).glob("*") if path.is_file() and path.name != ".SEQ"]
    found += (var / "lib/systemd/linger").glob("*")
    for home in {line.split(":")[5] for line in passwd.splitlines() if line.count(":") >= 6} - {"", "/"}:
        units = root / home.lstrip("/") / ".config/systemd/user"
        found += [path for path in units.rglob("*") if not path.is_dir()] if units.is_dir() else []
    return sorted(f"/{path.relative_to(root)}" for path in found)


def public_half(private: Path) -> str:
    """Return `ssh-ed25519 AAAA…` of an OpenSSH private key, which holds it in clear; empty when there is none (PROTOCOL.key)."""
    text = _text(private).strip()
    if not (text.startswith(_ARMOUR[0]) and text.endswith(_ARMOUR[1])):
        return ""
    try:
        data = base64.b64decode("".join(text.splitlines()[1:-1]))
        place = len(_MAGIC)
        for _ in range(3):  # cipher, key derivation, its options
            place += 4 + struct.unpack_from(">I", data, place)[0]
        place += 4  # how many keys: one
        size = struct.unpack_from(">I", data, place)[0]
        blob = data[place + 4 : place + 4 + size]
        kind = blob[4 : 4 + struct.unpack_from(">I", blob)[0]].decode("ascii")
    except (ValueError, struct.error, UnicodeDecodeError):
        return ""
    return f"{kind} {base64.b64encode(blob).decode()}" if data.startswith(_MAGIC) and kind else ""


def _parse_accounts(texts: Dict[str, str]) -> Dict[str, Any]:
    passwords = {row[0]: _kind_of_password(row[1]) for row in _rows(texts["shadow"], 2)}
    return {
        "users": {
            row[0]: {"uid": row[2], "gid": row[3], "home": row[5], "shell": row[6], "password": passwords.get(row[0], row[1])}
            for row in _rows(texts["passwd"], 7)
        },
        "groups": {
            row[0]: {"gid": row[2], "members": ",".join(sorted(filter(None, row[3].split(","))))}
            for row in _rows(texts["group"], 4)
        },
    }  # fmt: skip


def _kind_of_password(field: str) -> str:
    return "none" if not field else "locked" if field[0] in "!*" else "set"


def _rows(text: str, least: int) -> List[List[str]]:
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= least]


def _seal(path: Optional[Path]) -> str:
    if path is None or not path.is_file():
        return ""
    status = path.stat()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"sha256 {digest[:16]} mode {status.st_mode & 0o7777:04o} owner {status.st_uid}:{status.st_gid}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
