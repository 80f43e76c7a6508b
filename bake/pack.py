"""Pack a folder as a deterministic EROFS blob, and say what is in it."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from qtrade.toolsroot import ToolsRoot

_FIXED_UUID = "71747261-6465-4c61-b965-720000000001"
_OVERLAY_XATTRS = ("trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.uuid")
_NOT_SHIPPED = (
    "./boot/vmlinuz*",
    "./boot/System.map*",
    "./boot/initrd*",
    "./vmlinuz*",
    "./initrd.img*",
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./run/*",
    "./tmp/*",
)
_VAR_KEPT = "lib/dpkg"
# Folders that systemd's own tmpfiles.d makes, or that only the bake used.
_VAR_IGNORED = (
    "cache",
    "lib/apt",
    "lib/dpkg",
    "lib/systemd/deb-systemd",
    "lib/ucf",
    "lib/pam",
    "log/apt",
    "tmp",
    "backups",
)


@dataclass(frozen=True)
class Packed:
    """A layer blob: its file, SHA-256, size in bytes, fs-verity digest and paths."""

    path: Path
    digest: str
    size: int
    verity: str
    paths: tuple[str, ...]


def pack_layer(
    tools: ToolsRoot, tree: Path, target: Path, *, name: str, epoch: int, known_var: frozenset[str] = frozenset()
) -> Packed:
    """Pack `tree` (an upper directory or a whole root) as the EROFS file `target`.

    Equal trees give equal bytes: names sorted, times clamped to `epoch`, numeric owners. What the tree holds under /var
    becomes lines of tmpfiles.d, except for the dpkg database, which ships, and for `known_var`: folders (relative to /var)
    that the layers below make.
    """
    _write_var_lines(tree, name=name, known=known_var)
    archive = target.with_suffix(".tar")
    excludes = [f"--xattrs-exclude={name}" for name in _OVERLAY_XATTRS] + [f"--exclude={path}" for path in _NOT_SHIPPED]
    tools.run(
        "tar",
        "--sort=name",
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        f"--mtime=@{epoch}",
        "--clamp-mtime",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        *excludes,
        *_var_excludes(tree),
        "--anchored",
        "-C",
        tree,
        "-cf",
        archive,
        ".",
    )
    settings = ("--quiet", "-U", _FIXED_UUID, "-T", str(epoch), "--mkfs-time", "-zlz4", "-C65536", "--tar=f")
    tools.run("mkfs.erofs", *settings, target, archive)
    archive.unlink()
    return Packed(
        path=target,
        digest=sha256_file(target),
        size=target.stat().st_size,
        verity=verity_digest(tools, target),
        paths=_list_paths(tree),
    )


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def verity_digest(tools: ToolsRoot, path: Path) -> str:
    """Return the fs-verity digest (SHA-256, 4 KiB blocks, no salt) that the host's kernel will measure."""
    done = tools.run("fsverity", "digest", "--compact", "--hash-alg=sha256", "--block-size=4096", path)
    return done.stdout.split()[0].removeprefix("sha256:")


def _var_excludes(tree: Path) -> list[str]:
    """Return tar excludes for everything under /var that is not the dpkg database."""
    var = tree / "var"
    if not var.is_dir():
        return []
    excludes = [f"--exclude=./var/{entry.name}" for entry in sorted(var.iterdir()) if entry.name != "lib"]
    library = var / "lib"
    if library.is_dir():
        others = [entry.name for entry in sorted(library.iterdir()) if entry.name != "dpkg"]
        excludes += [f"--exclude=./var/lib/{name}" for name in others]
    return [*excludes, "--exclude=./var/lib/dpkg/lock*", "--exclude=./var/lib/dpkg/*-old"]


def _write_var_lines(tree: Path, *, name: str, known: frozenset[str]) -> None:
    lines = []
    var = tree / "var"
    if not var.is_dir() or var.is_symlink():
        return
    for folder, names, _ in os.walk(var):
        names.sort()
        path = Path(folder)
        inside = path.relative_to(var).as_posix()
        if (
            inside == "."
            or inside in known
            or any(inside == skip or inside.startswith((f"{skip}/", f"{skip}-")) for skip in _VAR_IGNORED)
        ):
            continue
        facts = path.stat()
        lines.append(f"d /var/{inside} {stat.S_IMODE(facts.st_mode):04o} {facts.st_uid} {facts.st_gid} -")
    if not lines:
        return
    target = tree / "usr/lib/tmpfiles.d" / f"qtrade-var-{name}.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(sorted(lines)) + "\n")
    target.chmod(0o644)


def _list_paths(tree: Path) -> tuple[str, ...]:
    found = []
    for folder, folders, files in os.walk(tree):
        path = Path(folder)
        inside = path.relative_to(tree).as_posix()
        files += [name for name in folders if (path / name).is_symlink()]
        if inside != "." and not _is_var(inside):
            facts = path.stat()
            found.append(f"d {stat.S_IMODE(facts.st_mode):04o}:{facts.st_uid}:{facts.st_gid} {inside}")
        names = [(path / file).relative_to(tree).as_posix() for file in files]
        found += [f"f {name}" for name in names if not _is_var(name)]
    return tuple(sorted(found))


def _is_var(path: str) -> bool:
    return path == "var" or (path.startswith("var/") and not path.startswith(f"var/{_VAR_KEPT}"))
