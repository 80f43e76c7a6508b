"""Digests of what a bake reads from the project. Always computed in full: no shortcut by times."""

import hashlib
import os
import stat
import sys
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
    project = settings.project
    return Inputs(
        code={kind: {**own, **_read_all(project, _PROJECT[kind])} for kind, own in _read_code(code).items()},
        roles={role: _read_role(project, role) for role in roles},
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
        return {path.name: _digest(path)}
    found = {}
    for folder, folders, files in os.walk(path):
        left_out = {*ignored, *(ignored_on_top if Path(folder) == path else ())}
        folders[:] = sorted(name for name in folders if name not in left_out)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            if name not in left_out and not name.endswith(".pyc"):
                file = Path(folder) / name
                found[file.relative_to(path).as_posix()] = _digest(file)
    return found


def hash_folder(path: Path, *, ignored: tuple[str, ...] = _BYTE_CODE, ignored_on_top: tuple[str, ...] = ()) -> str:
    """Return one SHA-256 over what `hash_files` returns."""
    total = hashlib.sha256()
    for name, digest in hash_files(path, ignored=ignored, ignored_on_top=ignored_on_top).items():
        total.update(f"{len(name)} {name} {digest} ".encode())
    return total.hexdigest()


def _read_code(code: Path) -> dict[str, dict[str, str]]:
    """Return the digests of qtrade's own files by kind of step; a file of several kinds is read once."""
    paths = {path for kind in _CODE.values() for path in kind}
    read = {path: _read_all(code, (path,)) for path in paths}
    return {kind: {name: read[path][name] for path in own for name in read[path]} for kind, own in _CODE.items()}


def _read_versions(lock: Lock) -> dict[str, dict[str, str]]:
    tools = {"tools": lock.tools_digest()}
    ansible = {name: version(name) for name in _ANSIBLE}
    python = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    layer = {**ansible, **python, **tools, **lock.collection_fields()}
    return {BASE: tools, LAYER: layer, INITRD: {}, INSTALLER: tools}


def _read_role(project: Path, role: str) -> dict[str, str]:
    folder = f"ansible/roles/{role}"
    files = hash_files(project / folder, ignored_on_top=_NOT_BAKED)
    own = {f"{folder}/{name}": digest for name, digest in files.items()}
    return {**own, **_read_all(project, (f"ansible/playbooks/{role}.yml",))}


def _read_all(root: Path, paths: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for path in paths:
        whole = root / path
        if whole.is_file():
            found[path] = _digest(whole)
        else:
            found.update({f"{path}/{name}": digest for name, digest in hash_files(whole).items()})
    return found


def _digest(path: Path) -> str:
    facts = path.lstat()
    content = os.readlink(path).encode() if stat.S_ISLNK(facts.st_mode) else path.read_bytes()  # noqa: PTH115 - a name, not a path
    kind = "l" if stat.S_ISLNK(facts.st_mode) else "x" if facts.st_mode & stat.S_IXUSR else "f"
    return hashlib.sha256(f"{kind} ".encode() + content).hexdigest()
