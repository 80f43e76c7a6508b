"""`qtrade version`: what runs here, and which formats it reads."""

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from qtrade import __version__, process
from qtrade.settings import Settings
from qtrade.upkeep.formats import NEWEST


@dataclass(frozen=True)
class VersionDocument:
    """What `qtrade version --json` prints; a program that is not there has an empty version. `schemas`: the newest of each kind."""

    qtrade: str
    python: str
    ansible: str
    ansible_core: str
    packer: str
    schemas: dict[str, int]


def read_versions(settings: Settings | None) -> VersionDocument:
    """Return the versions. Without a project, its own Packer is not looked for."""
    return VersionDocument(
        qtrade=__version__,
        python=platform.python_version(),
        ansible=_package("ansible"),
        ansible_core=_package("ansible-core"),
        packer=_packer(settings),
        schemas=dict(NEWEST),
    )


def render_versions(found: VersionDocument) -> str:
    """Return the versions, one to a line."""
    lines = [f"qtrade {found.qtrade}", f"Python {found.python}"]
    lines.append(f"Ansible {found.ansible or 'missing'} (ansible-core {found.ansible_core or 'missing'})")
    lines.append(f"Packer {found.packer or 'missing'}")
    lines.append("schemas " + ", ".join(f"{name} {number}" for name, number in found.schemas.items()))
    return "\n".join(lines)


def find_packer(settings: Settings | None) -> Path | None:
    """Return the Packer that a bake would use: the machine's own, else the unpacked one; None where neither is there."""
    own = shutil.which("packer", path=process.CLEAN_PATH)
    if own:
        return Path(own)
    unpacked = settings.state_dir / "roots/packer/usr/bin/packer" if settings else None
    return unpacked if unpacked is not None and unpacked.is_file() else None


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _packer(settings: Settings | None) -> str:
    from bake.packer import version as packer_version  # noqa: PLC0415 - brings cryptography

    program = find_packer(settings)
    return ".".join(str(part) for part in packer_version(program)) if program else ""
