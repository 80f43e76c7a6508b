"""Digests of what a bake reads from the project. Always computed in full: no shortcut by times."""

import hashlib
import os
import stat
from pathlib import Path

from bake.plan import INITRD, INSTALLER, Inputs
from qtrade.settings import Settings

_ENGINE_FILES = (
    "bake/base.py",
    "bake/chamber.py",
    "bake/ids.py",
    "bake/initramfs.py",
    "bake/layer.py",
    "bake/pack.py",
    "bake/packer.py",
    "qtrade/toolsroot.py",
)
_IGNORED = ("__pycache__", "specs", "README.md")
_BYTE_CODE = ("__pycache__",)


def read_inputs(settings: Settings, roles: tuple[str, ...], components: dict[str, str]) -> Inputs:
    """Return the digests of the project's files that `roles` and the initial RAM filesystems are made of."""
    code = Path(__file__).resolve().parent.parent
    project = settings.project
    shared = [
        hash_tree(project / "ansible" / name)
        for name in ("ansible.cfg", "playbooks/tasks", "collections")
        if (project / "ansible" / name).exists()
    ]
    return Inputs(
        engine=_combine([hash_tree(code / name) for name in _ENGINE_FILES] + [hash_tree(project / "packer")]),
        ids=hash_tree(project / "manifests/ids.yaml"),
        roles={
            role: _combine(
                [
                    hash_folder(project / "ansible/roles" / role, ignored_on_top=("specs", "README.md")),
                    hash_tree(project / f"ansible/playbooks/{role}.yml"),
                    *shared,
                ]
            )
            for role in roles
        },
        initramfs={
            INITRD: hash_tree(code / "bake/initramfs/os"),
            INSTALLER: _combine(
                [
                    hash_tree(code / name)
                    for name in ("bake/initramfs/installer", "bake/grub", "bake/grub.py", "flash/agent")
                ]
            ),
        },
        components=components,
    )


def hash_tree(path: Path) -> str:
    """Return the digest of a file, or of a folder without its specs and docs: they do not get into a layer."""
    return hash_folder(path, ignored=_IGNORED)


def hash_folder(path: Path, *, ignored: tuple[str, ...] = _BYTE_CODE, ignored_on_top: tuple[str, ...] = ()) -> str:
    """Return a SHA-256 over names, kinds, executable bits and contents of a file or folder.

    `ignored` names are left out wherever they stand, `ignored_on_top` in the folder itself only.
    """
    total = hashlib.sha256()
    if path.is_file():
        _add(total, path, path.name)
    for folder, folders, files in os.walk(path):
        left_out = {*ignored, *(ignored_on_top if Path(folder) == path else ())}
        folders[:] = sorted(name for name in folders if name not in left_out)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            if name not in left_out and not name.endswith(".pyc"):
                file = Path(folder) / name
                _add(total, file, file.relative_to(path).as_posix())
    return total.hexdigest()


def _add(total: "hashlib._Hash", path: Path, name: str) -> None:
    facts = path.lstat()
    content = str(path.readlink()).encode() if stat.S_ISLNK(facts.st_mode) else path.read_bytes()
    kind = "l" if stat.S_ISLNK(facts.st_mode) else "x" if facts.st_mode & stat.S_IXUSR else "f"
    total.update(f"{kind} {len(name)} {name} {len(content)} ".encode())
    total.update(content)


def _combine(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
