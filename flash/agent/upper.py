"""What was written into the root since the boot: the upper directory of the overlay, less what equals the image below it."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .lower import Lower, is_opaque, is_whiteout

_MOST = 500
_CHUNK = 1024 * 1024
_ATTRIBUTES = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFCHR: "device", stat.S_IFBLK: "device",
          stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}  # fmt: skip


def read_changes(upper: Path, lower: Lower) -> Dict[str, Any]:
    """Return `changes` (the first 500) and how many there are in all (`total`).

    A change is `{path, change, type, was, now}`: `added`, `changed` or `deleted`; `was` and `now` name what differs. A folder that is
    there only because something in it changed is none, and neither is a file that was copied up and is still the same.
    """
    found: List[Dict[str, Any]] = []
    total = 0
    for change in _walk(upper, "", lower):
        total += 1
        if len(found) < _MOST:
            found.append(change)
    return {"total": total, "changes": sorted(found, key=lambda one: str(one["path"]))}


def _walk(folder: Path, inside: str, lower: Lower) -> Iterator[Dict[str, Any]]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        path = f"{inside}{entry.name}"
        status = entry.stat(follow_symlinks=False)
        below = lower.find(path)
        if is_whiteout(status):
            if below is not None:
                yield _change(path, "deleted", _type(below.lstat()), "there", "gone")
            continue
        change = _compare(path, Path(entry.path), status, below)
        if stat.S_ISDIR(status.st_mode):
            inner = list(_walk(Path(entry.path), f"{path}/", lower))
            if below is not None and is_opaque(Path(entry.path)):
                inner += _hidden(Path(entry.path), path, lower)
            # A new folder shows by what is in it.
            if change is not None and (change["change"] != "added" or not inner):
                yield change
            yield from inner
        elif change is not None:
            yield change


def _hidden(folder: Path, path: str, lower: Lower) -> List[Dict[str, Any]]:
    """Return what a folder that was removed and made again hides of the image."""
    there = {entry.name for entry in os.scandir(folder)}
    return [
        _change(f"{path}/{name}", "deleted", "entry", "there", "gone")
        for name in lower.names(path)
        if name not in there
    ]


def _compare(path: str, now: Path, status: os.stat_result, below: Optional[Path]) -> Optional[Dict[str, Any]]:
    if below is None:
        return _change(path, "added", _type(status), "", _describe(now, status))
    before = below.lstat()
    facts = _facts(below, before), _facts(now, status)
    differing = [name for name in facts[1] if facts[0].get(name) != facts[1][name]]
    if not differing and stat.S_ISREG(status.st_mode) and not _same_bytes(below, now):
        return _change(path, "changed", "file", f"sha256 {_digest(below)[:16]}", f"sha256 {_digest(now)[:16]}")
    if not differing:
        return None
    was, is_now = (", ".join(f"{name} {one.get(name, '-')}" for name in differing) for one in facts)
    return _change(path, "changed", _type(status), was, is_now)


def _facts(path: Path, status: os.stat_result) -> Dict[str, str]:
    kind = stat.S_IFMT(status.st_mode)
    facts = {"type": _type(status), "owner": f"{status.st_uid}:{status.st_gid}"}
    if kind == stat.S_IFLNK:
        return {**facts, "target": str(path.readlink())}
    facts["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    if kind == stat.S_IFREG:
        facts["size"] = str(status.st_size)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        facts["device"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    for name in _ATTRIBUTES:
        try:
            facts[name] = os.getxattr(path, name, follow_symlinks=False).hex()
        except OSError:
            facts[name] = ""
    return facts


def _describe(path: Path, status: os.stat_result) -> str:
    facts = _facts(path, status)
    return ", ".join(f"{name} {value}" for name, value in facts.items() if name != "type" and value)


def _type(status: os.stat_result) -> str:
    return _TYPES.get(stat.S_IFMT(status.st_mode), "entry")


def _same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as left, other.open("rb") as right:
        while True:
            parts: Tuple[bytes, bytes] = (left.read(_CHUNK), right.read(_CHUNK))
            if parts[0] != parts[1]:
                return False
            if not parts[0]:
                return True


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            total.update(chunk)
    return total.hexdigest()


def _change(path: str, change: str, kind: str, was: str, now: str) -> Dict[str, Any]:
    return {"path": path, "change": change, "type": kind, "was": was, "now": now}
