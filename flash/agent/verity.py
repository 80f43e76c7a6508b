"""fs-verity by ioctl: switches it on for a blob and reads the digest that the kernel then guards."""

import array
import errno
import fcntl
import hashlib
import os
import struct
from pathlib import Path
from typing import Optional

from . import sectors
from .errors import AgentError
from .imagelist import Blob

_ENABLE = 0x40806685  # _IOW('f', 133, struct fsverity_enable_arg), 128 bytes
_MEASURE = 0xC0046686  # _IOWR('f', 134, struct fsverity_digest), 4 bytes of head
_SHA256 = 1
_BLOCK = 4096
_CHUNK = 1024 * 1024
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY)


def enable(path: Path) -> bool:
    """Switch verity on; False where the filesystem or the kernel has none. Raises `OSError` for other faults."""
    argument = struct.pack("<IIIIQIIQ", 1, _SHA256, _BLOCK, 0, 0, 0, 0, 0).ljust(128, b"\0")
    device = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(device, _ENABLE, argument)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return True
        if error.errno in _UNSUPPORTED:
            return False
        raise
    finally:
        os.close(device)
    return True


def measure(path: Path) -> Optional[str]:
    """Return the kernel's SHA-256 verity digest in hex, None when verity is off for the file."""
    answer = array.array("B", struct.pack("<HH", 0, 64) + bytes(64))
    device = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(device, _MEASURE, answer, True)
    except OSError as error:
        if error.errno in (errno.ENODATA, *_UNSUPPORTED):
            return None
        raise
    finally:
        os.close(device)
    raw = answer.tobytes()
    algorithm, size = struct.unpack_from("<HH", raw)
    return raw[4 : 4 + size].hex() if algorithm == _SHA256 else None


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises `AgentError` that names disk and sector when it cannot be read."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while True:
            at = file.tell()
            try:
                chunk = file.read(_CHUNK)
            except OSError as error:
                raise sectors.read_failed(path, at, error) from error
            if not chunk:
                return total.hexdigest()
            total.update(chunk)


def is_intact(path: Path, blob: Blob) -> bool:
    """Say whether the file is there and is the blob: by the verity digest if the kernel guards it, else by SHA-256."""
    try:
        if path.stat().st_size != blob.size_bytes:
            return False
        measured = measure(path) if blob.verity else None
        return measured == blob.verity if measured else hash_file(path) == blob.sha256
    except (OSError, AgentError):
        return False


def protect(path: Path, blob: Blob) -> bool:
    """Switch verity on for a layer and compare the digest with the list's; False where there is no verity. Raises `AgentError`."""
    if not blob.verity or not enable(path):
        return False
    measured = measure(path)
    if measured != blob.verity:
        path.unlink()
        raise AgentError(
            "verity-differs",
            f"layer {blob.role} {blob.sha256} measures {measured}, the list says {blob.verity}",
            "bake the image again; the layer was removed",
        )
    return True
