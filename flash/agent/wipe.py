"""Overwrites what must not be read again."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Callable

from .errors import AgentError

_BLKZEROOUT = 0x127F
_STEP = 64 * 1024 * 1024


def zero(path: Path, start: int, size: int, told: Callable[[int], None]) -> None:
    """Write zeros to `size` bytes at `start` and flush them; `told` gets the bytes done. Raises `AgentError`."""
    device = os.open(path, os.O_RDWR)
    try:
        done = 0
        while done < size:
            length = min(_STEP, size - done)
            try:
                fcntl.ioctl(device, _BLKZEROOUT, struct.pack("QQ", start + done, length))
            except OSError:
                # No block device, or none with this call: the slow way.
                os.pwrite(device, bytes(length), start + done)
            done += length
            told(done)
        os.fsync(device)
    except OSError as error:
        raise AgentError("wipe-failed", f"{path} at {start}: {error}", "destroy the disk physically") from error
    finally:
        os.close(device)
