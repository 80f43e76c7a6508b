"""Mounts and remounts the partitions of the OS disk."""

import contextlib
import os
from pathlib import Path
from typing import Iterator

from . import durable
from .programs import run


@contextlib.contextmanager
def mounted(device: Path, target: Path, kind: str, *options: str) -> Iterator[Path]:
    """Mount a filesystem for a while; it is flushed and unmounted in the end."""
    target.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", kind, "-o", ",".join(("nodev", "nosuid", *options)), str(device), str(target))
    try:
        yield target
    finally:
        os.sync()
        run("umount", str(target))


@contextlib.contextmanager
def shown(device: Path, target: Path, kind: str) -> Iterator[Path]:
    """Mount a filesystem for a look. Nothing is flushed: on a busy host that may take long."""
    target.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", kind, "-o", "ro,nodev,nosuid", str(device), str(target))
    try:
        yield target
    finally:
        run("umount", str(target))


@contextlib.contextmanager
def writable(target: Path) -> Iterator[Path]:
    """Remount the system partition read-write for a while. Going back to read-only also brings the journal home for GRUB."""
    run("mount", "-o", "remount,rw", str(target))
    try:
        yield target
    finally:
        durable.flush_filesystem(target)
        run("mount", "-o", "remount,ro", str(target))
