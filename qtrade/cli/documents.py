"""Schemas: of the files that people write, and of what `--json` prints."""

from typing import Any


def all_schemas() -> dict[str, dict[str, Any]]:
    """Return every JSON Schema by name."""
    from qtrade.manifest.schemas import manifest_schemas  # noqa: PLC0415 - they take a while to make

    return manifest_schemas()
