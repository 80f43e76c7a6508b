"""What a role declares that its layer listens on: a small document, which specs of other roles read without the layer around it."""

from pathlib import Path

from qtrade.errors import Refused
from qtrade.store import BlobRecord

_FACT = "interfaces"


def interface_facts(tree: Path, role: str) -> dict[str, str]:
    """Return what a layer's record keeps of the role's declaration in `tree`, the layer's files; nothing where there is none."""
    path = tree / _inside(role)
    return {_FACT: path.read_text()} if path.is_file() else {}


def read_interfaces(record: BlobRecord) -> str:
    """Return the declaration of a layer as its role wrote it. Raises `Refused` for a layer without one."""
    if _FACT not in record.facts:
        raise Refused(
            f"layer {record.name} declares no interfaces, but specs of another role want to read them",
            details=f"/{_inside(record.name)} is not in the layer",
            resolution="let the role lay that file, or take it out of `interfaces` in specs/image.yml of the role whose specs they are",
        )
    return record.facts[_FACT]


def lay_interfaces(tree: Path, record: BlobRecord) -> None:
    """Write the declaration of a layer into `tree`, where the layer would have it. Raises `Refused` for a layer without one."""
    text, path = read_interfaces(record), tree / _inside(record.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _inside(role: str) -> str:
    return f"usr/share/qtrade/interfaces.d/{role}.json"
