"""What a guest wrote and when it flushed, recorded by QEMU, and the disks that a power cut could have left.

QEMU's driver blklogwrites writes the kernel's dm-log-writes format: a superblock, then one entry per request, in the order in which they
were done. A disk with a volatile cache keeps what was written before the last flush that it confirmed; of what came after, it may
keep any part: whole requests, pages or sectors of them.
"""

import json
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

SECTOR = 512
_MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")


class Flag(IntFlag):
    """Kinds of entries."""

    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8


@dataclass(frozen=True)
class Entry:
    """A request: `size` bytes at `offset` of the disk; the data stands at `data_at` of the log."""

    flags: Flag
    offset: int
    size: int
    data_at: int

    @property
    def is_write(self) -> bool:
        return self.size > 0


@dataclass(frozen=True)
class Cut:
    """A power cut right after entry `index`. Of the `loose` pieces (not flushed yet) those in `kept` reached the disk, in that order."""

    index: int
    kept: tuple[tuple[int, int, int], ...]
    loose: int


def logged_disk(disk: Path, log: Path) -> str:
    """Return what QEMU opens so that all requests to `disk` go to `log` too, flushes among them."""
    nodes = {"driver": "blklogwrites", "file": _file(disk), "log": _file(log), "log-sector-size": SECTOR}
    return render_nodes(nodes)


def overlaid_disk(overlay: Path) -> str:
    """Return what QEMU opens as a raw disk that is a qcow2."""
    return render_nodes({"driver": "qcow2", "file": _file(overlay)})


def _file(path: Path) -> dict[str, object]:
    """Return a file whose flushes end in the page cache: the guest's power is cut, never the machine's that runs it."""
    return {"driver": "file", "filename": str(path), "cache": {"no-flush": True}}


def render_nodes(nodes: dict[str, object]) -> str:
    """Return the pseudo file name of a raw disk on block nodes."""
    return "json:" + json.dumps({"driver": "raw", "file": nodes}, separators=(",", ":"))


def read_log(path: Path) -> list[Entry]:
    """Return the entries of a log."""
    entries = []
    with path.open("rb") as log:
        magic, version, _, sector = _SUPER.unpack(log.read(_SUPER.size))
        assert (magic, version, sector) == (_MAGIC, 1, SECTOR), "this is no log of writes"
        at, end = SECTOR, path.stat().st_size
        while at + SECTOR <= end:
            log.seek(at)
            first, count, flags, data_bytes = _ENTRY.unpack(log.read(_ENTRY.size))
            assert flags < 16, f"no entry at {at} of the log"
            kind = Flag(flags)
            entries.append(Entry(kind, first * SECTOR, count * SECTOR, at + SECTOR))
            is_bare = bool(kind & (Flag.DISCARD | Flag.MARK))
            at += SECTOR + (data_bytes if kind & Flag.MARK else 0 if is_bare else count * SECTOR)
            at = -(-at // SECTOR) * SECTOR
    return entries


class Replay:
    """A disk on its way through a log: everything that was flushed is on it, and the loose rest of a cut for a while."""

    def __init__(self, disk: Path, log: Path) -> None:
        self.entries = read_log(log)
        self._disk = disk.open("r+b", buffering=0)
        self._log = log.open("rb")
        self._next = 0

    def close(self) -> None:
        self._disk.close()
        self._log.close()

    def choose(self, index: int, rng: random.Random, by_sector: range = range(0)) -> Cut:
        """Return a cut after entry `index`: nothing, all or a part of what was loose then is kept, each piece by itself.

        A piece has 4 KiB, and a sector where the offset is in `by_sector`.
        """
        pieces = []
        for number in range(self._last_flush(index) + 1, index + 1):
            entry = self.entries[number]
            unit = SECTOR if entry.offset in by_sector else 8 * SECTOR
            pieces += [(number, at, min(unit, entry.size - at)) for at in range(0, entry.size, unit)]
        share = rng.choice((0.0, 0.3, 0.6, 0.9, 1.0))
        kept = tuple(piece for piece in pieces if rng.random() < share)
        return Cut(index, kept, len(pieces))

    def advance(self, index: int) -> None:
        """Put on the disk all that was flushed when entry `index` was done."""
        flush = self._last_flush(index)
        assert flush + 1 >= self._next, "a replay goes one way"
        for entry in self.entries[self._next : flush + 1]:
            if entry.is_write:
                self._write(entry.offset, self._data(entry, 0, entry.size))
        self._next = max(self._next, flush + 1)

    @contextmanager
    def cut(self, cut: Cut) -> Iterator[None]:
        """Have the disk as the cut left it, for the length of a `with` block. The disk must not be changed in it."""
        self.advance(cut.index)
        undo = []
        for number, at, size in cut.kept:
            entry = self.entries[number]
            undo.append((entry.offset + at, self._read(entry.offset + at, size)))
            self._write(entry.offset + at, self._data(entry, at, size))
        try:
            yield
        finally:
            for offset, data in reversed(undo):
                self._write(offset, data)

    def signature(self, cut: Cut) -> Callable[[int, int], object]:
        """Return a function that tells apart what a byte range (start, size) of the disk holds after this cut and others."""
        flush = self._last_flush(cut.index)

        def sign(start: int, size: int) -> object:
            inside = range(start, start + size)
            last = next(
                (n for n in range(flush, -1, -1) if self.entries[n].is_write and self.entries[n].offset in inside), -1
            )
            return last, tuple(piece for piece in cut.kept if self.entries[piece[0]].offset in inside)

        return sign

    def _last_flush(self, index: int) -> int:
        while index >= 0 and not self.entries[index].flags & Flag.FLUSH:
            index -= 1
        return index

    def _data(self, entry: Entry, at: int, size: int) -> bytes:
        if entry.flags & Flag.DISCARD:
            return bytes(size)
        self._log.seek(entry.data_at + at)
        return self._log.read(size)

    def _read(self, offset: int, size: int) -> bytes:
        self._disk.seek(offset)
        return self._disk.read(size)

    def _write(self, offset: int, data: bytes) -> None:
        self._disk.seek(offset)
        self._disk.write(data)
