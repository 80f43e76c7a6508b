"""What a bake asks of a lock: where it is, and whether it fits the recipe. Reads the lock and the project, and nothing else."""

from pathlib import Path

from bake.lock.document import Lock, LockedBuild, read_lock
from bake.lock.wants import describe_stale, read_wants, stale_parts
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Recipe
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store


def lock_path(settings: Settings, recipe: Recipe) -> Path:
    """Return where the recipe's lock is: in manifests/images, or in the state directory when bakes make it."""
    if recipe.lock == "auto":
        return written_lock_path(settings, recipe)
    return settings.find(f"manifests/images/{recipe.name}.lock.json")


def written_lock_path(settings: Settings, recipe: Recipe) -> Path:
    """Return where a new lock goes: into the project, also for a recipe and a lock that come with qtrade, or the state directory."""
    folder = settings.state_dir / "locks" if recipe.lock == "auto" else settings.project / "manifests/images"
    return folder / f"{recipe.name}.lock.json"


def locked_blobs(settings: Settings) -> frozenset[str]:
    """Return the digests of what was built from source, by the locks of the project and of the state directory. Raises `BadInput`."""
    locks = [read_lock(path) for path in _lock_paths(settings)]
    built = [item for lock in locks if lock for item in lock.components.values() if isinstance(item, LockedBuild)]
    return frozenset(digest for item in built for digest in (item.sha256, item.provenance))


def locked_tools(settings: Settings) -> dict[str, str]:
    """Return the digests of the tools that locks of project and state directory name, with the lock's file. Raises `BadInput`."""
    locks = ((path, read_lock(path)) for path in _lock_paths(settings))
    return {lock.tools_digest(): f"{path.name} names it" for path, lock in locks if lock}


def _lock_paths(settings: Settings) -> tuple[Path, ...]:
    """Return the locks of the project, those that come with qtrade, and those of the state directory."""
    made = sorted((settings.state_dir / "locks").glob("*.lock.json"))
    return (*settings.find_all("manifests/images", "*.lock.json"), *made)


def require_lock(settings: Settings, store: Store, recipe: Recipe, reporter: Reporter) -> Lock:
    """Return the lock that a bake works by; with `lock: auto` it is made and mended. Raises as `check_lock` and `update_lock`."""
    try:
        return check_lock(settings, recipe)
    except (NotFound, BadInput):
        if recipe.lock != "auto":
            raise
    from bake.lock.update import Request, update_lock  # noqa: PLC0415 - a bake with nothing to lock needs none of it

    reporter.say(f"the lock of {recipe.name} does not fit the recipe yet: locking")
    return update_lock(settings, store, recipe, Request(), reporter).lock


def check_lock(settings: Settings, recipe: Recipe) -> Lock:
    """Return the lock. Raises `NotFound` when there is none, `BadInput` when it does not fit the recipe, part by part."""
    path = lock_path(settings, recipe)
    lock = read_lock(path)
    cure = f"run `qtrade lock --recipe {recipe.name}`"
    if lock is None:
        raise NotFound(f"recipe {recipe.name} is not locked yet", details=f"there is no {path}", resolution=cure)
    wants = read_wants(settings, recipe)
    stale = stale_parts(lock, wants)
    if stale:
        raise BadInput(
            f"the lock of {recipe.name} does not fit the recipe",
            details="\n".join(f"  {describe_stale(lock, wants, part)}" for part in stale),
            resolution=f"{cure}, and commit {path.name} if it stands beside the recipe",
        )
    return lock
