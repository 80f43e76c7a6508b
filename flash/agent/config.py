"""Config generations on the state partition: writes one from a verified bundle, and says which one counts.

One is settled by `settle`: its image boots with it from then on. Before that it lacks `.image`, so that its sums do not hold and the
initramfs passes it over; a generation that was refused or never confirmed can thus never be what a host falls back on.
"""

import base64
import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from . import durable, room
from .bundle import Bundle
from .dsse import canonical, digest
from .errors import AgentError
from .names import Names

_KEPT = 5
_BUNDLE, _IMAGE, _SUMS = ".bundle.json", ".image", ".sums"
_OWN = (_BUNDLE, _IMAGE, _SUMS)
_BLOCK = 4096


def write_generation(config: Path, bundle: Bundle, names: Names) -> None:
    """Write the folder of a generation, not settled; the same bundle again is no error, another one of the same number is."""
    final = config / bundle.generation
    # Without its bundle it is what `prune` could not remove as a whole.
    if final.is_dir() and (final / _BUNDLE).is_file():
        if (final / _BUNDLE).read_bytes() == canonical(bundle.envelope):
            return
        raise AgentError(
            "generation-exists", f"generation {bundle.generation} is there with other content", "push a higher one"
        )
    fresh = config / f".new-{bundle.generation}"
    if fresh.exists():
        durable.remove_all([fresh])
    _require_space(config, bundle)
    fresh.mkdir(parents=True, mode=0o755)
    for one in bundle.files:
        path = fresh / one.path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # Nobody else reads it before it has its owner and mode.
        durable.put_file(path, one.content, 0o600)
        os.chown(path, names.user(one.owner), names.group(one.group))
        path.chmod(one.mode)
    durable.put_file(fresh / _BUNDLE, canonical(bundle.envelope), 0o600)
    # By these the initramfs tells a whole generation, and one of the same image to fall back on.
    sums = {str(path.relative_to(fresh)): digest(path.read_bytes()) for path in fresh.rglob("*") if path.is_file()}
    sums[_IMAGE] = digest(_image_line(bundle.image_id))
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    durable.put_file(fresh / _SUMS, lines.encode(), 0o600)
    durable.flush_writes(fresh)
    fresh.rename(final)
    durable.sync_folder(config)


def _require_space(config: Path, bundle: Bundle) -> None:
    """Raise `AgentError`, with figures, when the state partition cannot take the generation."""
    sizes = [len(one.content) for one in bundle.files] + [len(canonical(bundle.envelope)), _BLOCK, _BLOCK]
    # Every file takes whole blocks, and a folder and a journal's line may come with it.
    needed = sum(-(-size // _BLOCK) * _BLOCK + _BLOCK for size in sizes) + 4 * _BLOCK
    free = room.root_can_write(config)
    if needed > free:
        raise AgentError(
            "state-full",
            f"{needed} bytes of config are to be written, {free} are free on qtrade-state; generation "
            f"{current_generation(config) or 'none'} stays current",
            "make room below /var on the host (journalctl --vacuum-size=100M, /var/crash), then push again",
        )


def make_room(config: Path, bundle: Bundle) -> None:
    """Move a generation of the same number but other content aside, with the links of the images that boot with it.

    For the installer only: a controller that lost its count begins anew.
    """
    there = config / bundle.generation
    if not there.is_dir() or (there / _BUNDLE).read_bytes() == canonical(bundle.envelope):
        return
    aside = f"{bundle.generation}-{digest((there / '.bundle.json').read_bytes())[:12]}"
    if (config / aside).exists():
        durable.remove_all([config / aside])
    there.rename(config / aside)
    for link in (config / "by-image").glob("*"):
        if link.readlink().name == bundle.generation:
            durable.replace_link(link, f"../{aside}")


def assign(config: Path, bundle: Bundle) -> None:
    """As `settle`, for the generation and the image of a bundle."""
    settle(config, bundle.generation, bundle.image_id)


def settle(config: Path, generation: str, image_id: str) -> None:
    """Let the image boot with this generation from now on."""
    # A generation of an older agent has no sums, and nothing is added to it.
    if (config / generation / _SUMS).is_file() and not (config / generation / _IMAGE).is_file():
        durable.write_file(config / generation / _IMAGE, _image_line(image_id), 0o600)
    (config / "by-image").mkdir(exist_ok=True)
    durable.replace_link(config / "by-image" / image_id, f"../{generation}")


def switch(config: Path, generation: str) -> None:
    """Let `current` point at a generation."""
    durable.replace_link(config / "current", generation)


def current_generation(config: Path) -> str:
    """Return the current generation, empty when there is none."""
    link = config / "current"
    return str(link.readlink()) if link.is_symlink() else ""


def assigned_generations(config: Path) -> Dict[str, str]:
    """Return image id -> the generation that it boots with, for those that are whole."""
    links = [link for link in sorted((config / "by-image").glob("*")) if link.is_symlink()]
    return {link.name: link.readlink().name for link in links if (link / _BUNDLE).is_file()}


def settled_generations(config: Path) -> Dict[str, str]:
    """Return generation -> image id for all that were settled once: what a host can go back to."""
    found = {}
    for name in _generations(config):
        with contextlib.suppress(AgentError):
            if is_settled(config, name):
                found[name] = image_of(config, name)
    return found


def is_settled(config: Path, generation: str) -> bool:
    """Say whether a generation was settled, and not only tried."""
    folder = config / generation
    return (folder / _BUNDLE).is_file() and ((folder / _IMAGE).is_file() or not (folder / _SUMS).is_file())


def read_envelopes(config: Path, generations: Iterable[str]) -> Dict[str, Any]:
    """Return generation -> signed bundle, of those that can be read."""
    found = {}
    for name in sorted(set(generations) - {""}):
        with contextlib.suppress(OSError, ValueError):
            found[name] = json.loads((config / name / _BUNDLE).read_bytes())
    return found


def image_of(config: Path, generation: str) -> str:
    """Return the image that a generation is for. Raises `AgentError` when its bundle cannot be read."""
    try:
        envelope = json.loads((config / generation / _BUNDLE).read_bytes())
        return str(json.loads(base64.b64decode(envelope["payload"]))["image"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(generation, error) from error


def _unreadable(generation: str, error: Exception) -> AgentError:
    return AgentError("generation-broken", f"generation {generation} has no readable bundle: {error!r}", "push again")


def require_whole(config: Path, generation: str, image_id: str) -> None:
    """Raise `AgentError` unless a generation was settled, is for the image, and every file of it is as it was pushed."""
    if not is_settled(config, generation):
        kept = ", ".join(settled_generations(config)) or "none"
        raise AgentError(
            "generation-missing", f"no generation {generation} was ever settled here", f"name one of these: {kept}"
        )
    if image_of(config, generation) != image_id:
        raise AgentError(
            "generation-foreign",
            f"generation {generation} is for image {image_of(config, generation)}, {image_id} runs",
            "roll the image back instead: it takes its config along",
        )
    damaged = _damaged(config / generation)
    if damaged:
        raise AgentError("generation-broken", f"generation {generation} is damaged: {', '.join(damaged)}", "push again")


def altered_files(config: Path, generation: str, names: Names) -> List[str]:
    """Return the files of a generation whose content, mode or owner is not what its bundle says, those gone and those added.

    Raises `AgentError` when its bundle cannot be read.
    """
    try:
        envelope = json.loads((config / generation / _BUNDLE).read_bytes())
        said = json.loads(base64.b64decode(envelope["payload"]))["files"]
        wanted = {
            one["path"]: (
                int(one["mode"], 8), names.user(one["owner"]), names.group(one["group"]), base64.b64decode(one["content"]),
            )
            for one in said
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(generation, error) from error
    found = {path: (stat.S_IMODE(mode), *rest) for path, (mode, *rest) in _snapshot(config / generation).items()}
    for path in [path for path in found if _is_covered(config, generation, path)]:
        found.pop(path)
        wanted.pop(path, None)
    return sorted(path for path in set(wanted) | set(found) if wanted.get(path) != found.get(path))


def _is_covered(config: Path, generation: str, path: str) -> bool:
    """Say whether the initramfs has mounted the host's own file of that name over it (`qtrade_bind_state`): then nobody sees it."""
    own = config.parent / "host" / path
    return own.is_file() and own.samefile(config / generation / path)


def read_sums(config: Path, generation: str) -> Dict[str, str]:
    """Return path -> SHA-256 of the files of a generation; none where there is no generation."""
    found = _snapshot(config / generation) if generation else {}
    return {path: digest(content) for path, (_, _, _, content) in found.items()}


def _damaged(folder: Path) -> List[str]:
    """Return the files that are not as the sums say; none for a generation of an older agent, which has no sums."""
    if not (folder / _SUMS).is_file():
        return []
    rows = [line.split("  ", 1) for line in (folder / _SUMS).read_text().splitlines()]
    return [
        name for wanted, name in rows if not (folder / name).is_file() or digest((folder / name).read_bytes()) != wanted
    ]


def changed_paths(config: Path, before: str, after: str) -> List[str]:
    """Return the paths whose content, mode or owner differ between two generations."""
    old, new = _snapshot(config / before) if before else {}, _snapshot(config / after)
    return sorted(path for path in set(old) | set(new) if old.get(path) != new.get(path))


def prune(config: Path) -> None:
    """Remove old generations, but none that is current or that an image boots with; of those never settled the last one stays.

    One that cannot be removed stays until a later push: of the generation that it booted with, the initramfs has covered `hostname` by a
    mount. A push that is settled does not fail by that.
    """
    links = [config / "current", *(config / "by-image").glob("*")]
    used = {link.readlink().name for link in links if link.is_symlink()}
    idle = [name for name in _generations(config) if name not in used]
    idle.sort(key=lambda name: (config / name).stat().st_mtime, reverse=True)
    settled = [name for name in idle if is_settled(config, name)]
    tried = [name for name in idle if name not in settled]
    for name in settled[_KEPT:] + tried[1:]:
        with contextlib.suppress(OSError):
            durable.remove_all([config / name])


def _generations(config: Path) -> List[str]:
    """Return the names of all generations, settled or not, lowest number first."""
    folders = [path.name for path in config.iterdir() if path.is_dir() and not path.is_symlink()]
    found = [name for name in folders if name != "by-image" and not name.startswith(".")]
    return sorted(found, key=lambda name: (int(name) if name.isdigit() else 0, name))


def _image_line(image_id: str) -> bytes:
    return f"{image_id}\n".encode()


def _snapshot(folder: Path) -> Dict[str, Tuple[int, int, int, bytes]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in _OWN:
            status = path.stat()
            found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, status.st_gid, path.read_bytes())
    return found
