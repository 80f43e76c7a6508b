"""The findings that a project lets pass, each with its reason (manifests/seal.yaml)."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field

from qtrade.manifest import load_manifest
from qtrade.manifest.base import Model


class Allowed(Model):
    """One finding that may stay: a pattern of paths, the finding in the seal's words, and why it is no secret."""

    path: str = Field(min_length=3)
    what: str
    reason: str = Field(min_length=10)


class SealPolicy(Model):
    """The table of manifests/seal.yaml."""

    schema_version: Literal[1]
    allow: tuple[Allowed, ...] = ()

    def allows(self, path: str, what: str) -> bool:
        """Return whether a finding may stay."""
        return any(what == item.what and fnmatchcase(path, item.path) for item in self.allow)


def load_policy(path: Path) -> SealPolicy:
    """Read the table; a project without one allows nothing. Raises `BadInput`."""
    return load_manifest(SealPolicy, path) if path.is_file() else SealPolicy(schema_version=1)
