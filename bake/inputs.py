"""Digests of what a bake reads from the project. Always computed in full: no shortcut by times."""

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from bake.lock.document import Lock
from bake.plan import INITRD, INSTALLER, LAYER, Fields, Inputs
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings

_RUNS_PROGRAMS = ("qtrade/process.py", "qtrade/toolsroot.py")
# qtrade's own files and folders that shape the bytes of each kind of step. The tests hold them against the imports of what makes it.
_CODE: dict[str, tuple[str, ...]] = {
    BASE: (*_RUNS_PROGRAMS, "bake/pack.py", "bake/ids.py", "bake/base.py", "bake/lock/repository.py"),
    LAYER: (
        *_RUNS_PROGRAMS,
        "bake/pack.py",
        "bake/chamber.py",
        "bake/layer.py",
        "bake/interfaces.py",
        "bake/components/take.py",
        "bake/lock/repository.py",
        "bake/packer.py",
    ),
    INITRD: (*_RUNS_PROGRAMS, "bake/chamber.py", "bake/initramfs.py", "bake/initramfs/os"),
    INSTALLER: (
        *_RUNS_PROGRAMS,
        "bake/chamber.py",
        "bake/initramfs.py",
        "bake/initramfs/installer",
        "bake/grub",
        "bake/grub.py",
        "flash/agent",
    ),
}
# What renders templates and reads YAML on this machine; their versions float.
_ANSIBLE = ("ansible-core", "jinja2", "markupsafe", "packaging", "pyyaml")
# Files of the project that do the same.
_PROJECT: dict[str, tuple[str, ...]] = {
    BASE: ("manifests/ids.yaml",),
    LAYER: ("packer/layer", "ansible/ansible.cfg", "ansible/playbooks/tasks", "ansible/collections"),
    INITRD: (),
    INSTALLER: (),
}
_BYTE_CODE = ("__pycache__",)
# They do not get into a layer.
_NOT_BAKED = ("specs", "README.md")


def read_inputs(settings: Settings, roles: tuple[str, ...], components: Fields, lock: Lock) -> Inputs:
    """Return the digests of the files that `roles` and the initial RAM filesystems are made of, and what the lock gives."""
    code = Path(__file__).resolve().parent.parent
    return Inputs(
        code={kind: {**own, **_read_all(settings.find, _PROJECT[kind])} for kind, own in _read_code(code).items()},
        roles={role: _read_role(settings, role) for role in roles},
        components=components,
        versions=_read_versions(lock),
        packages=lock.package_fields(),
    )


def hash_files(
    path: Path, *, ignored: tuple[str, ...] = _BYTE_CODE, ignored_on_top: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return a digest of kind, executable bit and content for each file or link below a folder, by its relative path.

    A file gives one digest under its own name; what does not exist gives none. `ignored` names are left out wherever they stand,
    `ignored_on_top` in the folder itself only.
    """
    if path.is_file():
        return {path.name: _digest(str(path))}
    found: dict[str, str] = {}
    _hash_below(str(path), "", found, ignored, (*ignored, *ignored_on_top))
    return found


def _hash_below(
    folder: str, prefix: str, found: dict[str, str], ignored: tuple[str, ...], here: tuple[str, ...]
) -> None:
    """Add the digests of what is below `folder`; plain strings, as paths take longer to make than files to read."""
    try:
        with os.scandir(folder) as entries:
            present = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in present:
        if entry.name in here or entry.name.endswith(".pyc"):
            continue
        if entry.is_dir(follow_symlinks=False):
            _hash_below(entry.path, f"{prefix}{entry.name}/", found, ignored, ignored)
        else:
            found[prefix + entry.name] = _digest(entry.path)


def hash_folder(path: Path, *, ignored: tuple[str, ...] = _BYTE_CODE, ignored_on_top: tuple[str, ...] = ()) -> str:
    """Return one SHA-256 over what `hash_files` returns."""
    total = hashlib.sha256()
    for name, digest in hash_files(path, ignored=ignored, ignored_on_top=ignored_on_top).items():
        total.update(f"{len(name)} {name} {digest} ".encode())
    return total.hexdigest()


def _read_code(code: Path) -> dict[str, dict[str, str]]:
    """Return the digests of qtrade's own files by kind of step; a file of several kinds is read once."""
    paths = {path for kind in _CODE.values() for path in kind}
    read = {path: _read_all(code.joinpath, (path,)) for path in paths}
    return {kind: {name: read[path][name] for path in own for name in read[path]} for kind, own in _CODE.items()}


def _read_versions(lock: Lock) -> dict[str, dict[str, str]]:
    tools = {"tools": lock.tools_digest()}
    ansible = {name: version(name) for name in _ANSIBLE}
    python = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    layer = {**ansible, **python, **tools, **lock.collection_fields()}
    return {BASE: tools, LAYER: layer, INITRD: {}, INSTALLER: tools}


def _read_role(settings: Settings, role: str) -> dict[str, str]:
    folder = f"ansible/roles/{role}"
    files = hash_files(settings.find(folder), ignored_on_top=_NOT_BAKED)
    own = {f"{folder}/{name}": digest for name, digest in files.items()}
    return {**own, **_read_all(settings.find, (f"ansible/playbooks/{role}.yml",))}


def _read_all(find: Callable[[str], Path], paths: tuple[str, ...]) -> dict[str, str]:
    """Return digests by the paths that are asked for, wherever `find` has them: a checkout and a wheel give the same."""
    found = {}
    for path in paths:
        whole = find(path)
        if whole.is_file():
            found[path] = _digest(str(whole))
        else:
            found.update({f"{path}/{name}": digest for name, digest in hash_files(whole).items()})
    return found


def _digest(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        kind, content = "l", os.readlink(path).encode()  # noqa: PTH115 - a string is quicker
    else:
        kind = "x" if mode & stat.S_IXUSR else "f"
        with open(path, "rb") as file:  # noqa: PTH123 - a string is quicker
            content = file.read()
    return hashlib.sha256(f"{kind} ".encode() + content).hexdigest()
