"""Take components for a layer: their bytes in the cache, compared with the lock."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from bake.components import Fetched
from bake.lock.apt import wanted_package
from bake.lock.cache import check_bytes
from bake.lock.document import LockedBuild, LockedFile
from bake.lock.download import fetch
from bake.lock.files import wanted_file
from qtrade import process
from qtrade.errors import NotFound
from qtrade.manifest.component import AptComponent, GithubComponent, UrlComponent
from qtrade.settings import Settings
from qtrade.store import Store

# Releases that are more than one file; what an archive holds is what the role sees, without its name.
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def take_components(
    settings: Settings, store: Store, components: Mapping[str, Fetched], names: Iterable[str], work: Path
) -> dict[str, Path]:
    """Return a file or folder for each named component, its bytes compared with the lock; builds and archives are unpacked below `work`.

    So a role gets a folder, whether its component is a folder of the project, was built, or is a release. What the cache lacks is
    fetched. Raises `TrustError` for a changed byte, naming component and file, and `NotFound`, `ToolError`.
    """
    taken = {}
    for name in names:
        item = components[name]
        if item.locked is not None:
            _check_fetched(item)
            have_component(settings, store, item)
            check_bytes(item.path, item.sha256, what=f"component {name} {item.version}")
        taken[name] = _unpack(item, work / name) if _is_archive(item) else item.path
    return taken


def have_component(settings: Settings, store: Store, item: Fetched) -> None:
    """Have the bytes of a locked component in the cache: of a file from its address, of a build from the store. Raises `NotFound`."""
    if item.path.is_file():
        return
    match item.locked, item.component:
        case LockedFile() as locked, AptComponent() as component:
            fetch(settings, wanted_package(settings, item.name, locked, component))
        case LockedFile() as locked, (UrlComponent() | GithubComponent()) as component:
            fetch(settings, wanted_file(item.name, locked, component))
        case _:
            if not store.has_blob(item.sha256):
                raise NotFound(
                    f"component {item.name} {item.version}: what was built is neither in the cache nor in the store",
                    details=f"  {item.path}\n  blob {item.sha256}",
                    resolution="use the store that the lock was made with; a new build would give other bytes: "
                    f"`qtrade lock --update {item.name} --accept-changed {item.name}`",
                )
            item.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = item.path.with_name(f".{item.path.name}.new")
            shutil.copyfile(store.open_blob(item.sha256), fresh)
            fresh.replace(item.path)


def _check_fetched(item: Fetched) -> None:
    """Raise `NotFound` for a private asset that is not in the cache: no bake uses a token."""
    if isinstance(item.component, GithubComponent) and item.component.private and not item.path.is_file():
        raise NotFound(
            f"component {item.name} {item.version} is a private release and not in the cache",
            details=f"  {item.path}",
            resolution="run `qtrade lock --fetch` with the token first: a bake uses none",
        )


def _is_archive(item: Fetched) -> bool:
    return isinstance(item.locked, LockedBuild) or (item.locked is not None and item.path.name.endswith(_ARCHIVES))


def _unpack(item: Fetched, target: Path) -> Path:
    target.mkdir(parents=True)
    process.run(["tar", "--extract", "--no-same-owner", "--file", item.path, "--directory", target])
    return target
