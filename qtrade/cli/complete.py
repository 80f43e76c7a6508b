"""What a Tab completes: names of hosts, environments, recipes and versions. From files alone: nobody waits for a network at a Tab."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from qtrade.errors import QtradeError
from qtrade.settings import Settings, load_settings


def complete_hosts(incomplete: str) -> list[str]:
    """Return the hosts that begin so, those of the lab among them."""
    settings = _settings()
    if settings is None:
        return []
    lab = (path.parent for path in (settings.state_dir / "lab").glob("*/host.yaml"))
    return _fitting([*_stems(settings.project / "manifests/hosts"), *(folder.name for folder in lab)], incomplete)


def complete_environments(incomplete: str) -> list[str]:
    """Return the environments that begin so."""
    settings = _settings()
    return _fitting(_stems(settings.project / "manifests/environments"), incomplete) if settings else []


def complete_recipes(incomplete: str) -> list[str]:
    """Return the recipes that begin so."""
    settings = _settings()
    return _fitting(_stems(settings.project / "manifests/images"), incomplete) if settings else []


def complete_versions(incomplete: str) -> list[str]:
    """Return the versions that begin so, newest first, of a store that is a folder."""
    from qtrade.store.order import version_order  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = _settings()
    if settings is None or not isinstance(settings.store, Path):
        return []
    found = {path.stem for path in (settings.store / "versions").glob("*/*.json")}
    return [one for one in sorted(found, key=version_order, reverse=True) if one.startswith(incomplete)]


def _settings() -> Settings | None:
    try:
        return load_settings()
    except QtradeError:
        return None


def _stems(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.yaml")]


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


VersionName = Annotated[str, typer.Argument(help="Version in the store.", autocompletion=complete_versions)]
