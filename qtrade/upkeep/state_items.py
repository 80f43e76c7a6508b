"""What lies in the state directory, how big and how old it is, and who uses it now."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bake.lock.check import locked_tools
from flash.journal import Journal
from flash.rollout.journal import RolloutJournal
from flash.rollout.progress import ENDS
from qtrade.errors import BadInput
from qtrade.machine import pids
from qtrade.settings import Settings
from qtrade.upkeep import work_folders
from qtrade.upkeep.machine_checks import mounts_below
from qtrade.upkeep.old_state import Item, Kind

_TOOLS_LOCKS = ("bake.lock", "roots/tools.lock")


def find_items(settings: Settings) -> tuple[Item, ...]:
    """Return all that `decide` judges. Raises `BadInput` for a lock that cannot be read: whose tools are needed is not known then."""
    state, now = settings.state_dir, time.time()
    mounted = mounts_below(state, Path("/proc/self/mountinfo").read_text())
    return tuple(
        Item(
            kind, of, tuple(str(path.relative_to(state)) for path in paths), _size(paths), now - _changed(paths), needed
        )
        for kind, of, paths, needed in (
            *_flashes(state),
            *_rollouts(state),
            *_logs(state),
            *_work(state),
            *_outputs(state),
            *_tools(settings),
        )
        for needed in (needed or _mount_in(paths, mounted),)
    )


@contextmanager
def held_locks(state: Path, item: Item) -> Iterator[bool]:
    """Hold the locks that guard an item while it is deleted; says whether nobody else has them."""
    first = item.paths[0].split("/")[0]
    names = [name for name, folders in work_folders.GUARDED.items() if first in folders]
    names += _TOOLS_LOCKS if item.kind is Kind.TOOLS else ()
    handles = []
    try:
        for name in names:
            (state / name).parent.mkdir(parents=True, exist_ok=True)
            handles.append((state / name).open("a"))
            fcntl.flock(handles[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        for handle in handles:
            handle.close()


def _flashes(state: Path) -> Iterator[tuple[Kind, str, tuple[Path, ...], str]]:
    """Give what each flash or errand left, journal and console together. A host's newest journal says where it stands."""
    for folder in _folders(state / "flashes"):
        by_stem: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            by_stem.setdefault(path.stem, []).append(path)
        journals = sorted(stem for stem, paths in by_stem.items() if any(path.suffix == ".jsonl" for path in paths))
        for stem, paths in by_stem.items():
            needed = "the host's last flash" if journals[-1:] == [stem] else _open_flash(folder / f"{stem}.jsonl")
            yield Kind.FLASHES, folder.name, tuple(paths), needed


def _open_flash(path: Path) -> str:
    try:
        return "a flash that has not ended" if Journal(path).is_open else ""
    except BadInput:
        return "a journal that cannot be read"


def _rollouts(state: Path) -> Iterator[tuple[Kind, str, tuple[Path, ...], str]]:
    """Give what each rollout left: its journal, the judge's samples and what the flashes of hosts said."""
    for folder in _folders(state / "rollouts"):
        journals = [path for path in _children(folder) if path.suffix == ".jsonl"]
        for path in journals:
            # The journal goes last: without it, nobody would find the rest.
            rest = [one for one in _children(folder) if one.name.startswith(f"{path.stem}.") and one != path]
            needed = "its last rollout" if path == journals[-1] else _open_rollout(path)
            yield Kind.ROLLOUTS, folder.name, (*rest, path), needed


def _open_rollout(path: Path) -> str:
    try:
        return "" if RolloutJournal(path).read()[1].phase in ENDS else "a rollout that has not ended"
    except BadInput:
        return "a journal that cannot be read"


def _logs(state: Path) -> Iterator[tuple[Kind, str, tuple[Path, ...], str]]:
    for path in _children(state / "logs"):
        yield Kind.LOGS, path.name, (path,), ""
    for path in _folders(state / "failed"):
        yield Kind.FAILED, path.name, (path,), ""
    for path in _children(state / "cache/partial"):
        yield Kind.PARTIAL, path.name, (path,), ""


def _work(state: Path) -> Iterator[tuple[Kind, str, tuple[Path, ...], str]]:
    for lock, folders in work_folders.GUARDED.items():
        used = "" if _is_free(state / lock) else "a command works there"
        for name in folders:
            if (state / name).is_dir():
                yield Kind.WORK, name, (state / name,), used
    for name in work_folders.LOOSE:
        for path in _folders(state / name):
            yield Kind.WORK, f"{name}/{path.name}", (path,), ""


def _outputs(state: Path) -> Iterator[tuple[Kind, str, tuple[Path, ...], str]]:
    for recipe in _folders(state / "outputs"):
        for path in _folders(recipe):
            yield Kind.OUTPUTS, f"{recipe.name} {path.name}", (path,), ""


def _tools(settings: Settings) -> Iterator[tuple[Kind, str, tuple[Path, ...], str]]:
    roots = settings.tools_dir.parent
    named = {f"tools-{digest[:16]}": why for digest, why in locked_tools(settings).items()}
    is_free = all(_is_free(settings.state_dir / name) for name in _TOOLS_LOCKS)
    for path in _folders(roots):
        if path.is_symlink() or not (path.name.startswith("tools-") or path.name.endswith((".new", ".gone"))):
            continue
        needed = named.get(path.name, "")
        if settings.tools_dir.resolve() == path.resolve():
            needed = "what commands without a lock use"
        elif not needed and not is_free:
            needed = "a bake may be making or using it"
        elif not needed and _runs_from(path.resolve()):
            needed = "a program runs from it"
        yield Kind.TOOLS, path.name, (path,), needed


def _runs_from(root: Path) -> bool:
    """Say whether a program of that root runs, or a lab host's BMC that starts its QEMU from there."""
    return bool(pids.find_processes((f"{root}/",)) or pids.find_processes((f"--tools={root}",)))


def _is_free(path: Path) -> bool:
    if not path.exists():
        return True
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _mount_in(paths: tuple[Path, ...], mounted: tuple[Path, ...]) -> str:
    inside = [one for one in mounted if any(path == one or path in one.parents for path in paths)]
    return f"{inside[0]} is mounted there" if inside else ""


def _size(paths: tuple[Path, ...]) -> int:
    """Return the bytes on disk; a file that others link to frees nothing."""
    total = 0
    for path in paths:
        for folder, _, files in os.walk(path) if path.is_dir() else ((str(path.parent), (), [path.name]),):
            for name in files:
                found = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - hundreds of thousands of files
                total += found.st_blocks * 512 if found.st_nlink == 1 else 0
    return total


def _changed(paths: tuple[Path, ...]) -> float:
    return max(path.lstat().st_mtime for path in paths)


def _children(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.iterdir())) if folder.is_dir() else ()


def _folders(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in _children(folder) if path.is_dir())
