"""The log of writes that QEMU keeps, read back: a replay of it gives the disk, and a cut loses only what was not flushed."""

import random
from pathlib import Path

import pytest

from qtrade.settings import load_settings
from qtrade.toolsroot import ToolsRoot, open_tools
from tests.torture.write_log import Cut, Flag, Replay, logged_disk

pytestmark = pytest.mark.integration

_SIZE_BYTES = 1 << 20
_FLUSHED = ("write -P 1 0 8k", "write -P 2 4k 4k", "flush")
_LOOSE = ("write -P 3 512k 12k", "discard 4k 4k")


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A disk before, the same after some requests, and the log of these."""
    tools: ToolsRoot = open_tools(load_settings())
    before, after, log = tmp_path / "before", tmp_path / "after", tmp_path / "log"
    for disk in (before, after):
        disk.write_bytes(b"\xaa" * _SIZE_BYTES)
    log.touch()
    # Without a cache that writes through, qemu-io would flush after each request.
    requests = [word for request in (*_FLUSHED, *_LOOSE) for word in ("-c", request)]
    modules = {"QEMU_MODULE_DIR": str(tools.root / "usr/lib/x86_64-linux-gnu/qemu")}
    tools.run("qemu-io", "-t", "writeback", "-d", "unmap", "-f", "raw", *requests, logged_disk(after, log), env=modules)
    return before, after, log


def test_a_replay_of_everything_gives_the_disk(written: tuple[Path, Path, Path]) -> None:
    before, after, log = written
    replay = Replay(before, log)
    # qemu-io flushes when it closes the disk.
    assert replay.entries[-1].flags & Flag.FLUSH
    replay.advance(len(replay.entries) - 1)
    replay.close()
    assert before.read_bytes() == after.read_bytes()


def test_a_cut_loses_what_was_not_flushed_and_nothing_else(written: tuple[Path, Path, Path]) -> None:
    before, _, log = written
    replay = Replay(before, log)
    (first_loose,) = (number for number, entry in enumerate(replay.entries) if entry.offset == 512 << 10)
    flushed = b"\1" * 4096 + b"\2" * 4096 + b"\xaa" * (_SIZE_BYTES - 8192)
    with replay.cut(Cut(first_loose, (), 3)):
        assert before.read_bytes() == flushed
    with replay.cut(Cut(first_loose, ((first_loose, 4096, 512),), 3)):
        content = before.read_bytes()
    assert content[(512 << 10) + 4096 :][:513] == b"\3" * 512 + b"\xaa"
    assert content.count(3) == 512
    assert before.read_bytes() == flushed
    losses = {len(replay.choose(first_loose, random.Random(seed), range(_SIZE_BYTES)).kept) for seed in range(50)}
    assert {0, 24} < losses
    replay.close()
