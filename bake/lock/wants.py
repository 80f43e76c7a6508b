"""What a recipe asks for, part by part, and which parts of a lock no longer answer it."""

import hashlib
import json
import sys
from pathlib import Path

import yaml

from bake.inputs import hash_folder
from bake.lock.document import Lock, LockedCollection
from bake.plan import digest_of
from qtrade.errors import NotFound
from qtrade.manifest import Recipe
from qtrade.manifest.component import AptComponent, Component, SourceComponent
from qtrade.settings import Settings
from qtrade.toolsroot import PACKAGES, SUITE

# What the Ansible wheel brings and bakes use, and the project's own.
FOREIGN_COLLECTION = "community.general"
OWN_COLLECTION = "qtrade.image"


def read_wants(settings: Settings, recipe: Recipe) -> dict[str, str]:
    """Return the digest of what the recipe asks for, by part.

    The parts are `base`, `tools`, `layer <role>`, `component <name>`, `collection <name>` and, where the recipe has some, `pins`.
    A change of a layer's packages or of what it stands on asks for other packages; its role, variables and files do not.
    """
    base = recipe.base
    wants = {"base": digest_of([base.suite, base.kernel, base.packages]), "tools": tools_wanted()}
    if recipe.pins:
        wants["pins"] = digest_of(recipe.pins)
    for layer in recipe.layers:
        if layer.packages:
            wants[f"layer {layer.role}"] = digest_of([layer.packages, recipe.ancestors(layer.role)])
    for name, component in recipe.components.items():
        if is_locked(component):
            wants[f"component {name}"] = _wants_of(settings, name, component)
    for name, collection in read_collections(settings).items():
        wants[f"collection {name}"] = digest_of(collection.model_dump(mode="json"))
    return wants


def tools_wanted() -> str:
    """Return the digest of what this version of qtrade asks of the tools root."""
    return digest_of([SUITE, PACKAGES])


def is_locked(component: Component) -> bool:
    """Return whether a component has an entry in the lock; a folder of the project as it is has none: it is versioned with the recipe."""
    return not (isinstance(component, SourceComponent) and component.build is None)


def stale_parts(lock: Lock, wants: dict[str, str]) -> tuple[str, ...]:
    """Return the parts whose wants differ from the lock's, those that the recipe no longer has among them."""
    return tuple(sorted(part for part in {*wants, *lock.wants} if wants.get(part) != lock.wants.get(part)))


def describe_stale(lock: Lock, wants: dict[str, str], part: str) -> str:
    """Return in words how a part of the recipe differs from the lock."""
    kind, _, name = part.partition(" ")
    what = {
        "base": "packages of the base",
        "tools": "packages of the tools root",
        "layer": f"packages of {name}",
        "pins": "packages that hold a version (pins)",
    }.get(kind, part)
    if part not in wants:
        return f"{what}: gone from the recipe"
    if kind == "tools":
        return f"{what}: this qtrade needs others than are locked"
    if part not in lock.wants:
        return f"{what}: new in the recipe"
    if kind == "collection":
        return f"{what}: locked {lock.collections[name].version}, another one or other content is installed"
    return f"{what}: changed in the recipe"


def _wants_of(settings: Settings, name: str, component: Component) -> str:
    asked = component.asked()
    if isinstance(component, SourceComponent) and component.path is not None:
        return digest_of([asked, folder_digest(settings, name, component.path)])
    if isinstance(component, AptComponent) and component.repository.startswith("file:"):
        # A repository on this machine (the stand-ins') may be built again at any time.
        return digest_of([asked, _digest_local_index(settings, component)])
    return digest_of(asked)


def folder_digest(settings: Settings, name: str, path: str) -> str:
    """Return the digest of a component's folder in the project. Raises `NotFound`."""
    folder = settings.find(path)
    if not folder.exists():
        raise NotFound(
            f"component {name}: {folder} does not exist", resolution=f"correct components.{name}.path in the recipe"
        )
    return hash_folder(folder, ignored=("__pycache__", "README.md"))


def local_path(settings: Settings, text: str) -> str:
    """Return `text` with `{state}` replaced by the state directory."""
    return text.replace("{state}", str(settings.state_dir))


def _digest_local_index(settings: Settings, component: AptComponent) -> str:
    root = local_path(settings, component.repository).removeprefix("file:").rstrip("/")
    index = Path(root) / "dists" / component.suite / component.section / "binary-amd64/Packages"
    try:
        return hashlib.sha256(index.read_bytes()).hexdigest()
    except OSError:
        return ""  # the lock will say what is wrong with it


def _is_file(path: Path) -> bool:
    """Whether it is a file that this account may see: Python's path may name folders that it may not."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def read_collections(settings: Settings) -> dict[str, LockedCollection]:
    """Return the Ansible collections that bakes use, as they are installed. Raises `NotFound`."""
    found = {}
    place = Path("ansible_collections", *FOREIGN_COLLECTION.split("."), "MANIFEST.json")
    # Where Ansible looks, too: the library may be another's that this environment uses.
    manifest = next((whole for folder in sys.path if _is_file(whole := Path(folder, place))), None)
    if manifest is None:
        raise NotFound(
            f"the Ansible collection {FOREIGN_COLLECTION} is not installed",
            details=f"no folder of Python's path has {place}",
            resolution="install the Python package ansible again: it comes with that",
        )
    content = manifest.read_bytes()
    version = json.loads(content)["collection_info"]["version"]
    found[FOREIGN_COLLECTION] = LockedCollection(version=version, sha256=hashlib.sha256(content).hexdigest())
    own = settings.ansible / "collections/ansible_collections" / OWN_COLLECTION.replace(".", "/") / "galaxy.yml"
    if own.is_file():
        found[OWN_COLLECTION] = LockedCollection(version=str(yaml.safe_load(own.read_text())["version"]))
    return found
