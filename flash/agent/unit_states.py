"""The units of the running host, beside those that the image starts at boot.

One question to systemd lists them all; asking for each would take seconds on a small machine. What is only read of a few is asked of these.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Set

from .lower import Lower
from .programs import run

_KINDS = ("service", "timer", "socket", "path")
_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system")
_WANTS = re.compile(r"\.target\.(wants|requires)\Z")
_ONCE = re.compile(r"(?m)^Type\s*=\s*oneshot\s*$")
_REMAINS = re.compile(r"(?m)^RemainAfterExit\s*=\s*(yes|true|on|1)\s*$")
# Without `|`, each has to hold (systemd.unit(5)); specifiers such as %i are left to systemd.
_PATHS = re.compile(r"(?m)^Condition(PathExists|PathExistsGlob|DirectoryNotEmpty)\s*=\s*(!?)(/[^\s%]*)\s*$")
# Where systemd keeps what was made or set since the boot; generators have other folders.
_MADE = ("transient", "system", "system.control")
# The initramfs masks this one (bake/initramfs/os/scripts/qtrade); sessions and slices come and go with people.
_KNOWN = re.compile(r"systemd-machine-id-commit\.service\Z|.*\.(scope|slice)(\.d)?(/|\Z)")


def read_units(run_folder: Path, lower: Lower) -> Dict[str, Any]:
    """Return `declared` (units that the image's targets want), `found` (those that systemd knows), `made` and `drained`.

    `made` are files of units and settings that were made at run time, `drained` the units that a drain has stopped. A declared unit that
    is not active has `is_due`: whether it is one that stays, and its conditions held.
    """
    declared = declared_units(lower)
    found = _parse_list(
        run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "--type", ",".join(_KINDS))
    )
    idle = [one["name"] for one in found if one["name"] in declared and one["active"] in ("inactive", "deactivating")]
    due = _due_units([name for name in idle if _may_be_due(name, lower)])
    marks = run_folder / "drained"
    return {
        "declared": sorted(declared),
        "found": [{**one, "is_due": one["name"] in due} for one in found],
        "made": _read_made(run_folder.parent / "systemd"),
        "drained": sorted(path.name for path in marks.iterdir()) if marks.is_dir() else [],
    }


def declared_units(lower: Lower) -> Set[str]:
    """Return the units that a target of the image wants or requires and that it does not mask."""
    found = {
        name
        for folder in _FOLDERS
        for wants in lower.names(folder)
        if _WANTS.search(wants)
        for name in lower.names(f"{folder}/{wants}")
    }
    return {
        name
        for name in found
        if name.rpartition(".")[2] in _KINDS and lower.link(f"etc/systemd/system/{name}") != "/dev/null"
    }


def _parse_list(text: str) -> List[Dict[str, str]]:
    rows = (line.split(None, 4) for line in text.splitlines())
    return [{"name": row[0], "load": row[1], "active": row[2], "sub": row[3]} for row in rows if len(row) > 3]


def _may_be_due(name: str, lower: Lower) -> bool:
    """Say whether a unit may have to be active: it stays once it is started, and none of its paths is missing now.

    Services that run once do not stay (systemd.service(5), Type). Conditions of other kinds systemd has to tell.
    """
    file = re.sub(r"@[^.]*", "@", name)
    texts = [lower.read(f"{folder}/{file}") or "" for folder in _FOLDERS]
    texts += [
        lower.read(f"{folder}/{file}.d/{drop_in}") or ""
        for folder in _FOLDERS
        for drop_in in lower.names(f"{folder}/{file}.d")
    ]
    text = "\n".join(texts)
    runs_once = name.endswith(".service") and _ONCE.search(text) is not None and _REMAINS.search(text) is None
    return not runs_once and all(_holds(*found) for found in _PATHS.findall(text))


def _holds(kind: str, negation: str, path: str) -> bool:
    place = Path(path)
    if kind == "PathExists":
        is_so = place.exists()
    elif kind == "PathExistsGlob":
        is_so = any(place.parent.glob(place.name))
    else:
        is_so = place.is_dir() and any(place.iterdir())
    return is_so is not bool(negation)


def _due_units(names: List[str]) -> Set[str]:
    """Return those whose conditions held when they were last to start."""
    if not names:
        return set()
    text = run("systemctl", "show", "--property", "Id,ConditionResult", *names, timeout_s=60)
    blocks = (dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n"))
    return {block.get("Id", "") for block in blocks if block.get("ConditionResult") == "yes"}


def _read_made(systemd: Path) -> List[str]:
    files = [path for name in _MADE for path in (systemd / name).rglob("*") if not path.is_dir() or path.is_symlink()]
    return sorted(f"/run/systemd/{path.relative_to(systemd)}" for path in files if not _is_known(path, systemd))


def _is_known(path: Path, systemd: Path) -> bool:
    return _KNOWN.match("/".join(path.relative_to(systemd).parts[1:])) is not None
