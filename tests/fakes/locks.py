"""Small locks that fit the recipes of `examples`."""

from typing import Any

from bake.lock.check import lock_path
from bake.lock.document import Lock, LockedPackage, write_lock
from bake.lock.wants import read_collections, read_wants
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from tests.fakes.examples import sha


def make_package(name: str, version: str = "1.0", **changes: Any) -> LockedPackage:
    """Return a package whose digest follows from its name and version."""
    fields = {
        "name": name,
        "version": version,
        "architecture": "amd64",
        "sha256": sha(f"{name} {version}"),
        "size": 100,
        "filename": f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
    }
    return LockedPackage.model_validate({**fields, **changes})


def make_lock(settings: Settings, recipe: Recipe, **changes: Any) -> Lock:
    """Return a lock that fits the recipe, which has no components but folders."""
    fields: dict[str, Any] = {
        "recipe": recipe.name,
        "suite": recipe.base.suite,
        "wants": read_wants(settings, recipe),
        "tools": (make_package("tar"), make_package("erofs-utils")),
        "base": (make_package("libc6"), make_package("udev")),
        "layers": {layer.role: (make_package(layer.role),) for layer in recipe.layers if layer.packages},
        "collections": read_collections(settings),
    }
    return Lock(**{**fields, **changes})


def write_lock_of(settings: Settings, recipe: Recipe) -> Lock:
    """Write the lock of `make_lock` where a bake looks for it."""
    lock = make_lock(settings, recipe)
    write_lock(lock, lock_path(settings, recipe))
    return lock
