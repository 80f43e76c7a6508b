"""A fleet on a folder in memory, as its hosts flush all that they write."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.identity_fleet import Fleet

MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def fleet(folder) -> Fleet:
    return Fleet(folder)
