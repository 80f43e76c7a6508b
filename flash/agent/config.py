"""Config generations: writes one from a verified bundle, switches to it, and goes back when a unit does not take it."""

import base64
import binascii
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from . import durable, units
from .dsse import canonical, digest, open_envelope
from .errors import AgentError
from .imagelist import is_digest
from .names import Names
from .units import Inputs, UnitAction

PAYLOAD_TYPE = "application/vnd.qtrade.bundle+json"
_GENERATION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")
_KEPT = 5
_OWN = (".bundle.json", ".image", ".sums")
_BLOCK = 4096


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle."""

    path: str
    mode: int
    owner: str
    group: str
    content: bytes


@dataclass(frozen=True)
class Bundle:
    """A config bundle whose signature was checked, with the envelope that it came in."""

    host: str
    generation: str
    image_id: str
    files: Tuple[BundleFile, ...]
    envelope: Mapping[str, Any]


def open_bundle(envelope: Mapping[str, Any], keys: Mapping[str, bytes], host: str) -> Bundle:
    """Return the bundle of an envelope that one of `keys` signed for `host`. Raises `AgentError`."""
    payload = open_envelope(envelope, PAYLOAD_TYPE, keys).payload
    try:
        fields = json.loads(payload)
        files = tuple(_parse_file(one) for one in fields["files"])
        bundle = Bundle(str(fields["host"]), str(fields["generation"]), str(fields["image"]), files, envelope)
        is_known = fields["schema_version"] == 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError(
            "bundle-invalid", f"the config bundle is malformed: {error!r}", "render it again with `qtrade push`"
        ) from error
    if not is_known or not is_digest(bundle.image_id) or _GENERATION.match(bundle.generation) is None:
        raise AgentError("bundle-invalid", "the config bundle has a bad schema_version, image or generation")
    if bundle.host != host:
        raise AgentError(
            "bundle-foreign", f"the config bundle is for {bundle.host}, this is {host}", "push the bundle of this host"
        )
    if len({one.path for one in bundle.files}) != len(bundle.files):
        raise AgentError("bundle-invalid", "the config bundle names a path twice")
    return bundle


def check_declared(bundle: Bundle, inputs: Inputs) -> None:
    """Raise `AgentError` when the bundle holds a path that the image does not declare."""
    foreign = sorted(one.path for one in bundle.files if inputs.units_of(one.path) is None)
    if foreign:
        raise AgentError(
            "path-undeclared",
            f"the image declares no config file {', '.join(foreign)}",
            "declare it in the role's config/inputs.yml",
        )


def write_generation(config: Path, bundle: Bundle, names: Names) -> None:
    """Write the folder of a generation; the same bundle again is no error, another one of the same number is."""
    final = config / bundle.generation
    if final.is_dir():
        if (final / ".bundle.json").read_bytes() == canonical(bundle.envelope):
            return
        raise AgentError(
            "generation-exists", f"generation {bundle.generation} is there with other content", "push a higher one"
        )
    fresh = config / f".new-{bundle.generation}"
    if fresh.exists():
        shutil.rmtree(fresh)
    _require_space(config, bundle)
    fresh.mkdir(parents=True, mode=0o755)
    for one in bundle.files:
        path = fresh / one.path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        # Nobody else reads it before it has its owner and mode.
        durable.write_file(path, one.content, 0o600)
        os.chown(path, names.user(one.owner), names.group(one.group))
        path.chmod(one.mode)
    durable.write_file(fresh / ".bundle.json", canonical(bundle.envelope), 0o600)
    # By these the initramfs tells a whole generation, and one of the same image to fall back on.
    durable.write_file(fresh / ".image", f"{bundle.image_id}\n".encode(), 0o600)
    names_of = sorted(str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file())
    sums = "".join(f"{digest((fresh / name).read_bytes())}  {name}\n" for name in names_of)
    durable.write_file(fresh / ".sums", sums.encode(), 0o600)
    os.sync()
    fresh.rename(final)
    durable.sync_folder(config)


def _require_space(config: Path, bundle: Bundle) -> None:
    """Raise `AgentError`, with figures, when the state partition cannot take the generation."""
    sizes = [len(one.content) for one in bundle.files] + [len(canonical(bundle.envelope)), _BLOCK, _BLOCK]
    # Every file takes whole blocks, and a folder and a journal's line may come with it.
    needed = sum(-(-size // _BLOCK) * _BLOCK + _BLOCK for size in sizes) + 4 * _BLOCK
    status = os.statvfs(config)
    free = status.f_bfree * status.f_frsize
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
    if not there.is_dir() or (there / ".bundle.json").read_bytes() == canonical(bundle.envelope):
        return
    aside = f"{bundle.generation}-{digest((there / '.bundle.json').read_bytes())[:12]}"
    if (config / aside).exists():
        durable.remove_all([config / aside])
    there.rename(config / aside)
    for link in (config / "by-image").glob("*"):
        if link.readlink().name == bundle.generation:
            durable.replace_link(link, f"../{aside}")


def assign(config: Path, bundle: Bundle) -> None:
    """Let the image of the bundle boot with this generation from now on."""
    (config / "by-image").mkdir(exist_ok=True)
    durable.replace_link(config / "by-image" / bundle.image_id, f"../{bundle.generation}")


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
    return {link.name: link.readlink().name for link in links if (link / ".bundle.json").is_file()}


def apply(
    config: Path, bundle: Bundle, inputs: Inputs, names: Names, act: Callable[[UnitAction], None] = units.act
) -> List[str]:
    """Write and switch to a generation; units of changed files reload or restart. Returns their names.

    When a unit does not take it, the earlier generation is current again, the units get it back, and `AgentError` is raised.
    """
    check_declared(bundle, inputs)
    write_generation(config, bundle, names)
    before = current_generation(config)
    changed = changed_paths(config, before, bundle.generation)
    actions = inputs.actions_of(changed)
    switch(config, bundle.generation)
    try:
        units.act_on_all(actions, act)
    except AgentError as error:
        if before:
            switch(config, before)
            units.act_on_all_regardless(actions, act)
        raise AgentError(
            "config-rejected",
            f"generation {bundle.generation} was not taken: {error.message}",
            f"generation {before} is current again; correct the values and push"
            if before
            else "correct the values and push",
        ) from error
    assign(config, bundle)
    prune(config)
    return [action.name for action in actions]


def changed_paths(config: Path, before: str, after: str) -> List[str]:
    """Return the paths whose content, mode or owner differ between two generations."""
    old, new = _snapshot(config / before) if before else {}, _snapshot(config / after)
    return sorted(path for path in set(old) | set(new) if old.get(path) != new.get(path))


def prune(config: Path) -> None:
    """Remove old generations, but none that is current or that an image boots with."""
    links = [config / "current", *(config / "by-image").glob("*")]
    used = {link.readlink().name for link in links if link.is_symlink()}
    folders = [path for path in config.iterdir() if path.is_dir() and not path.is_symlink() and path.name != "by-image"]
    idle = sorted(
        (path for path in folders if path.name not in used), key=lambda path: path.stat().st_mtime, reverse=True
    )
    durable.remove_all(idle[_KEPT:])


def _snapshot(folder: Path) -> Dict[str, Tuple[int, int, int, bytes]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in _OWN:
            status = path.stat()
            found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, status.st_gid, path.read_bytes())
    return found


def _parse_file(fields: Mapping[str, Any]) -> BundleFile:
    path = str(fields["path"])
    pure = PurePosixPath(path)
    hidden: Optional[str] = next((part for part in pure.parts if part.startswith(".")), None)
    if pure.is_absolute() or hidden or str(pure) != path or not pure.parts or "\0" in path:
        raise AgentError("path-invalid", f"{path!r} is no plain relative path", "correct the role's config/inputs.yml")
    mode = str(fields["mode"])
    if _MODE.match(mode) is None:
        raise AgentError("bundle-invalid", f"{path}: mode {mode!r} is not like 0640")
    try:
        content = base64.b64decode(fields["content"], validate=True)
    except (binascii.Error, ValueError):
        raise AgentError("bundle-invalid", f"{path}: the content is not base64") from None
    return BundleFile(path, int(mode, 8), str(fields["owner"]), str(fields["group"]), content)
