"""All disks of a machine as a person would look at them, and the acceptance of a disk that holds something else."""

import hashlib
from typing import Any, Dict, Iterable, List

from . import ondisk
from .disks import Disk
from .dsse import canonical
from .errors import AgentError

ANY = "any"
_DIGITS = 16
_HEAD = 1024 * 1024


def survey(disks: Iterable[Disk]) -> List[Dict[str, Any]]:
    """Return one row per disk, ordered by what does not change from boot to boot."""
    return sorted((_row(disk) for disk in disks), key=lambda row: (row["serial"], row["wwid"], row["pci_path"]))


def digest(rows: Iterable[Dict[str, Any]]) -> str:
    """Return 16 hex digits that stand for these disks and what is on them; names that the kernel gives do not count."""
    stable = [{name: value for name, value in row.items() if name != "name"} for row in rows]
    return hashlib.sha256(canonical({"disks": stable})).hexdigest()[:_DIGITS]


def is_empty(disk: Disk) -> bool:
    """Say whether nothing is to be lost on an OS disk: no table, no filesystem, and zeros in its first MiB."""
    if disk.gpt is not None or disk.fs_uuids or disk.members or disk.partitions:
        return False
    with disk.path.open("rb") as device:
        return not any(ondisk.read_at(device, 0, _HEAD))


def require_accepted(disk: Disk, disks: Iterable[Disk], accepted: str) -> None:
    """Refuse an OS disk with something else on it, unless the job accepts just these disks. Raises `AgentError`, showing all."""
    if disk.is_ours or accepted == ANY or is_empty(disk):
        return
    rows = survey(disks)
    if accepted == digest(rows):
        return
    shown = "; ".join(render(row) for row in rows)
    what = "what was accepted was shown differently" if accepted else "it would be lost"
    raise AgentError(
        "disk-foreign",
        f"{disk.describe()} holds something else, and {what}; the machine has: {shown}",
        f"read this list; if all of {disk.name} may be overwritten, flash again with --adopt {digest(rows)}",
    )


def render(row: Dict[str, Any]) -> str:
    """Return a row as one line for people."""
    parts = (
        ", ".join(f"{one['label'] or one['type']} {one['size']}" for one in row["partitions"]) or "no GPT partitions"
    )
    kept = ", ".join([*row["filesystems"], *row["members"]]) or "no known filesystem"
    return (
        f"{row['name']} {row['model'] or '?'} serial {row['serial'] or '-'} wwid {row['wwid'] or '-'} "
        f"{row['size_bytes']} bytes [{parts}] [{kept}]"
    )


def _row(disk: Disk) -> Dict[str, Any]:
    table = disk.gpt.partitions if disk.gpt else ()
    return {
        "name": disk.name,
        "model": disk.model,
        "serial": disk.serial,
        "wwid": disk.wwid,
        "pci_path": disk.pci_path,
        "size_bytes": disk.size_bytes,
        "partitions": [{"label": one.label, "type": one.type_uuid, "size": one.size} for one in table],
        "filesystems": list(disk.fs_uuids),
        "members": list(disk.members),
    }
