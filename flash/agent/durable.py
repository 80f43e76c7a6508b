"""Writes that survive a power cut: flushed before they are named, and flushed again by name."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Iterable

from .errors import AgentError

_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878
_SYNC_FILE_RANGE_WRITE = 2
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Power cuts in the one moment that leaves something behind on FAT.
_LEFTOVERS = 100


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a file in place as a whole: temporary name, flush, rename, flush of the folder. For filesystems with a journal."""
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    _write_new(fresh, data, mode)
    fresh.replace(path)
    sync_folder(path.parent)


def write_on_fat(path: Path, data: bytes) -> None:
    """As `write_file`, on FAT, which has no journal: after a power cut at any moment, the name leads to the old file or to the new one.

    Linux keeps in memory where a renamed file begins until its inode is written, and frees the clusters of the replaced file when that is
    closed. So the old file is held open until the temporary name is gone and the inode flushed, in this order: two names must not lead to
    the same clusters. What a power cut left under a temporary name stays: its clusters may be another file's by now, and deleting it would
    free them. Raises `AgentError` where there are too many of these.
    """
    names = (path.with_name(f".{path.name}.new{number or ''}") for number in range(_LEFTOVERS))
    fresh = next((name for name in names if not name.exists()), None)
    if fresh is None:
        raise AgentError(
            "esp-crowded", f"{_LEFTOVERS} leftovers of power cuts lie beside {path}", "make the ESP anew: --reimage"
        )
    _write_new(fresh, data, 0o644)
    with contextlib.ExitStack() as held:
        if path.is_file():
            held.enter_context(path.open("rb"))
        fresh.replace(path)
        sync_folder(path.parent)
        flush_file(path)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    device = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(device, "wb") as file:
        os.fchmod(device, mode)
        file.write(data)
        file.flush()
        os.fsync(device)


def put_file(path: Path, data: bytes, mode: int) -> None:
    """Write a new file without a flush: for folders that `flush_writes` flushes as a whole before anything leads to them."""
    device = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(device, "wb") as file:
        os.fchmod(device, mode)
        file.write(data)


def flush_writes(folder: Path) -> None:
    """Flush what was written to the filesystem of a folder, and to no other: other disks of a busy host take seconds for that."""
    device = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        import ctypes  # noqa: PLC0415 - who only reads does without

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(device):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(device)


def overwrite(path: Path, data: bytes) -> None:
    """Write a file over its own blocks, for a reader (GRUB) that knows no rename; made first if it has another size."""
    flags = os.O_WRONLY | (0 if path.exists() and path.stat().st_size == len(data) else os.O_CREAT | os.O_TRUNC)
    device = os.open(path, flags, 0o600)
    try:
        os.pwrite(device, data, 0)
        os.fsync(device)
    finally:
        os.close(device)
    sync_folder(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Let a symlink point at `target`, with no moment without it."""
    fresh = link.with_name(f".{link.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)


def flush_file(path: Path, *, forgets: bool = False) -> None:
    """Flush a file that was written before. With `forgets` it is read from the disk next, not from the page cache."""
    device = os.open(path, os.O_RDONLY)
    try:
        os.fsync(device)
        if forgets:
            with contextlib.suppress(OSError):
                os.posix_fadvise(device, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(device)


def exchange(one: Path, other: Path) -> None:
    """Let two folders change names in one step, with no moment in which one of the names is missing or leads to a mix."""
    import ctypes  # noqa: PLC0415 - as above

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder, that is the names in it."""
    device = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(device)
    finally:
        os.close(device)


def flush_filesystem(folder: Path) -> None:
    """Bring a filesystem's journal home (freeze and thaw): GRUB replays none. A filesystem that cannot freeze is only synced."""
    os.sync()
    device = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.ioctl(device, _FIFREEZE, 0)
            fcntl.ioctl(device, _FITHAW, 0)
    finally:
        os.close(device)


def begin_flush(device: int) -> None:
    """Let the kernel begin to write what is dirty of a file, without waiting for it; nothing happens where it cannot."""
    import ctypes  # noqa: PLC0415 - as above

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).sync_file_range(device, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files and folders."""
    import shutil  # noqa: PLC0415 - it brings three compressors along

    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
