"""The components of a recipe on this machine: things that are no Debian package of the base suite, each known by digest."""

from dataclasses import dataclass
from pathlib import Path

from bake.lock.cache import cached_path
from bake.lock.document import Lock, LockedBuild, LockedFile
from bake.lock.wants import folder_digest, is_locked
from qtrade.manifest import Recipe
from qtrade.manifest.component import Component, SourceComponent
from qtrade.settings import Settings


@dataclass(frozen=True)
class Fetched:
    """A component: a file or folder, and its SHA-256 (of a folder: over names and contents; of a build: of its archive).

    `locked` is None for a folder of the project. What is locked may not be on this machine yet: `take.take_components` sees to that.
    """

    name: str
    path: Path
    sha256: str
    version: str
    standin: bool
    locked: LockedFile | LockedBuild | None = None
    component: Component | None = None

    @property
    def identity(self) -> str:
        """What a role sees of it, for the keys of layers: its content, and the suffix under which it lies in the root."""
        return self.sha256 + self.path.suffix


def list_components(settings: Settings, recipe: Recipe, lock: Lock) -> dict[str, Fetched]:
    """Return every component of the recipe by what the lock says; folders of the project are read. Raises `NotFound`."""
    found = {}
    for name, component in recipe.components.items():
        if is_locked(component):
            locked = lock.components[name]
            path = cached_path(settings, locked.sha256, locked.file)
            found[name] = Fetched(
                name, path, locked.sha256, component.version, component.standin, locked=locked, component=component
            )
        elif isinstance(component, SourceComponent) and component.path is not None:
            digest = folder_digest(settings, name, component.path)
            found[name] = Fetched(name, settings.find(component.path), digest, component.version, component.standin)
    return found
