"""One lab host after another: the fixtures of `tests/rigs.py`."""

from tests.rigs import bios, image_010, pytest_sessionstart, settings

__all__ = ["bios", "image_010", "pytest_sessionstart", "settings"]
