"""`qtrade gc`: deletes what the state directory has too much of. What a store has too much of is `qtrade images gc`."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtrade.settings import Settings
from qtrade.upkeep.old_state import Item, Kept, Limits, Verdict, decide
from qtrade.upkeep.state_items import find_items, held_locks


@dataclass(frozen=True)
class Collected:
    """What `qtrade gc --json` prints. `size` is in bytes; with `deleted` false, nothing was."""

    gone: tuple[Item, ...]
    kept: tuple[Kept, ...]
    size: int
    deleted: bool

    def as_json(self) -> dict[str, Any]:
        """Return the document."""
        return asdict(self)


def plan(settings: Settings, limits: Limits) -> Verdict:
    """Return what would go. Raises `BadInput` for a lock that cannot be read."""
    return decide(find_items(settings), limits)


def collect(settings: Settings, limits: Limits, agreed: Verdict) -> Collected:
    """Delete what was `agreed` as far as it still may go; what somebody uses by now stays."""
    now = plan(settings, limits)
    allowed = {item.paths: item for item in now.gone}
    gone, kept = [], list(now.kept)
    for wanted in agreed.gone:
        item = allowed.get(wanted.paths)
        if item is None:
            continue
        with held_locks(settings.state_dir, item) as is_ours:
            if is_ours:
                for path in item.paths:
                    _delete(settings.state_dir / path)
                gone.append(item)
            else:
                kept.append(Kept(item, "a command uses it"))
    return Collected(tuple(gone), tuple(kept), sum(item.size for item in gone), deleted=True)


def preview(verdict: Verdict) -> Collected:
    """Return a plan as the document of a run that deletes nothing."""
    return Collected(verdict.gone, verdict.kept, verdict.size, deleted=False)


def render_collected(document: Collected) -> str:
    """Return what goes, for people: each thing with its size, then the sum."""
    verb = "deleted" if document.deleted else "would delete"
    lines = [f"{verb}: {', '.join(item.paths)} ({_mib(item.size)})" for item in document.gone]
    return "\n".join([*lines, f"{verb}: {len(document.gone)} things, {_mib(document.size)}; {len(document.kept)} stay"])


def _delete(path: Path) -> None:
    """Delete a file, or a folder, which is first renamed: half of a tools root must not look like a whole one."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path.with_name(f"{path.name}.gone")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
