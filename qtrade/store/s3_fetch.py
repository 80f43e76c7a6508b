"""Download an object from S3: go on after a broken transfer, believe nothing but the SHA-256."""

import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name for it
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)

from qtrade.errors import TrustError

# What a connection that breaks off shows as; what the server says is none of it.
BROKEN = (HTTPClientError, ConnectionError, IncompleteReadError, FlexibleChecksumError)
_CHUNK = 1 << 20
# Tries that bring nothing, one after another.
_TRIES = 3
_WRONG_RANGE = 416
_PARTIAL = 206


def fetch(client: Any, at: dict[str, str], path: Path, sha256: str, size: int) -> None:
    """Write the object to `path`. Raises `TrustError` for content that is wrong twice, or boto3's errors.

    What has arrived lies beside `path` until all of it has, and is taken up by the next fetch.
    """
    partial = path.with_name(f".{path.name}.part")
    with partial.open("a+b") as sink:
        fcntl.flock(sink, fcntl.LOCK_EX)
        if path.is_file() and _digest(path) == sha256:  # another process was quicker
            partial.unlink(missing_ok=True)
            return
        for is_last in (False, True):
            _complete(client, at, sink, size)
            found = _digest(partial)
            if found == sha256:
                break
            sink.truncate(0)
            if is_last:
                partial.unlink(missing_ok=True)
                raise TrustError(
                    f"{at['Key']} is damaged in the store",
                    details=f"its SHA-256 is {found}",
                    resolution="delete that object and bake the version again",
                )
        os.fsync(sink.fileno())
        partial.rename(path)


def _complete(client: Any, at: dict[str, str], sink: IO[bytes], size: int) -> None:
    """Append what is missing to `size` bytes, in as many requests as it takes."""
    barren = 0
    while (have := sink.seek(0, os.SEEK_END)) != size:
        if have > size:
            sink.truncate(0)
            continue
        try:
            _append(client, at, sink, have)
        except BROKEN:
            barren = 0 if sink.seek(0, os.SEEK_END) > have else barren + 1
            if barren == _TRIES:
                raise
            time.sleep(min(0.1 * 2**barren, 5.0))
        else:
            # An answer that ends too early without an error, or brings too much: not one of the two makes a try.
            barren += 1
            if barren == _TRIES:
                return


def _append(client: Any, at: dict[str, str], sink: IO[bytes], have: int) -> None:
    wanted = {"Range": f"bytes={have}-"} if have else {}
    try:
        answer = client.get_object(**at, **wanted)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != _WRONG_RANGE:
            raise
        sink.truncate(0)
        return
    body = answer["Body"]
    try:
        if wanted and answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL:
            sink.truncate(0)  # a server that knows no ranges sends all of it
        while chunk := body.read(_CHUNK):
            sink.write(chunk)
    finally:
        sink.flush()
        body.close()


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
