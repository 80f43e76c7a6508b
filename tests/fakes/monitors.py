"""Environments and names of metrics for tests of monitors."""

from pathlib import Path

from qtrade.manifest import Environment

PROJECT = Path(__file__).resolve().parents[2]
NAMES = {"geyser": "yellowstone_grpc_geyser"}


def make_environment(**changes: object) -> Environment:
    """Return production with the base set."""
    fields = {"schema_version": 1, "name": "production", "monitor_set": "base", **changes}
    return Environment.model_validate(fields)
