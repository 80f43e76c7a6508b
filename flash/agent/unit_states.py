"""The units of the running host, beside those that the image starts at boot."""

import re
from pathlib import Path
from typing import Any, Dict, List, Set

from .lower import Lower
from .programs import run

PROPERTIES = ("Id", "Type", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "FragmentPath", "DropInPaths",
              "ConditionResult", "RemainAfterExit")  # fmt: skip
_KINDS = ("*.service", "*.timer", "*.socket", "*.path")
_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system")
_WANTS = re.compile(r"\.target\.(wants|requires)\Z")
# What generators and PID 1 itself make in every boot.
_GENERATED = ("/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late")


def read_units(run_folder: Path, lower: Lower) -> Dict[str, Any]:
    """Return `declared` (units that the image's targets want), `found` (those that are loaded) and `drained` (stopped by a drain).

    A found unit has `in_image`: whether its file is one of the image's, or made by a generator; `drop_ins` are those that are not.
    """
    text = run("systemctl", "show", "--property", ",".join(PROPERTIES), *_KINDS, timeout_s=60)
    marks = run_folder / "drained"
    return {
        "declared": sorted(declared_units(lower)),
        "found": [_describe(fields, lower) for fields in _parse(text)],
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
    return {name for name in found if lower.link(f"etc/systemd/system/{name}") != "/dev/null"}


def _parse(text: str) -> List[Dict[str, str]]:
    blocks = (block.splitlines() for block in text.split("\n\n"))
    return [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks if block]


def _describe(fields: Dict[str, str], lower: Lower) -> Dict[str, Any]:
    fragment = fields.get("FragmentPath", "")
    drop_ins = [path for path in fields.get("DropInPaths", "").split() if not _is_known(path, lower)]
    return {
        "name": fields.get("Id", ""),
        "type": fields.get("Type", ""),
        "load": fields.get("LoadState", ""),
        "active": fields.get("ActiveState", ""),
        "sub": fields.get("SubState", ""),
        "result": fields.get("Result", ""),
        "file_state": fields.get("UnitFileState", ""),
        "file": fragment,
        "in_image": not fragment or _is_known(fragment, lower),
        "drop_ins": drop_ins,
        "condition": fields.get("ConditionResult") == "yes",
        "remains": fields.get("RemainAfterExit") == "yes",
    }


def _is_known(path: str, lower: Lower) -> bool:
    return str(Path(path).parent).startswith(_GENERATED) or lower.find(path.lstrip("/")) is not None
