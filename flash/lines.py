"""JSON lines in a file that a crash may cut off: a torn last line does not count, and is written over."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qtrade.errors import BadInput
from qtrade.redaction import redact

_BLOCK = 1 << 16


def append_lines(path: Path, documents: Iterable[Any], *, sync: bool) -> None:
    """Append documents, one a line. With `sync` they are on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(redact(json.dumps(one, sort_keys=True, separators=(",", ":"))) + "\n" for one in documents)
    with path.open("r+b" if path.exists() else "w+b") as sink:
        cut_torn(sink.fileno())
        sink.seek(0, os.SEEK_END)
        sink.write(text.encode())
        sink.flush()
        if sync:
            os.fsync(sink.fileno())


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the documents, one at a time. Raises `BadInput` for a line in the middle that is none."""
    if not path.exists():
        return
    with path.open() as source:
        for number, line in enumerate(source, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BadInput(f"{path}:{number} is no line of a record", resolution="move the file away") from error


def cut_torn(descriptor: int) -> None:
    """Remove what follows the last line end, looking from the end only."""
    end = os.fstat(descriptor).st_size
    whole = end
    while whole > 0:
        begin = max(whole - _BLOCK, 0)
        found = os.pread(descriptor, whole - begin, begin).rfind(b"\n")
        if found >= 0:
            whole = begin + found + 1
            break
        whole = begin
    if whole < end:
        os.ftruncate(descriptor, whole)
