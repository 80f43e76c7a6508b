"""SLSA provenance v1 of an image (https://slsa.dev/spec/v1.0/provenance): what it was made from, and by what."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qtrade import __version__, process
from qtrade.errors import ToolError
from qtrade.manifest import Image
from qtrade.signing import STATEMENT_TYPE, SigningKey
from qtrade.trust.statements import PROVENANCE, statement

BUILD_TYPE = "https://github.com/qtrade/qtrade/bake/v1"
BUILDER = "https://github.com/qtrade/qtrade/builder/v1"


@dataclass(frozen=True)
class SourceState:
    """The checkout that an image is baked from: its commit, empty outside of git, and whether files differ from it."""

    commit: str
    dirty: bool


def read_source(project: Path) -> SourceState:
    """Return the state of the project's checkout. A project that is in no checkout counts as dirty: nobody can fetch it again."""
    git = ("git", "-C", project, "-c", f"safe.directory={project}")
    try:
        commit = process.run((*git, "rev-parse", "--verify", "HEAD"), timeout_s=20).stdout.strip()
        changes = process.run(
            (*git, "status", "--porcelain", "--untracked-files=normal", "--", "."), timeout_s=60
        ).stdout
    except ToolError:
        return SourceState("", dirty=True)
    return SourceState(commit, dirty=bool(changes.strip()))


def provenance(
    image: Image, source: SourceState, *, started: int, finished: int, resolved: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the predicate. `started` and `finished` in Unix seconds; layers stand under the keys that say what they hold.

    `resolved` are the resource descriptors of what the bake took besides source and components.
    """
    dependencies: list[dict[str, Any]] = [
        {
            "name": part.name,
            "digest": {"sha256": part.sha256},
            "annotations": {"version": part.version, "standin": part.standin},
        }
        for part in image.components
    ]
    if source.commit:
        digest = {"gitCommit": source.commit}
        dependencies.append({"name": "source", "digest": digest, "annotations": {"dirty": source.dirty}})
    dependencies += resolved
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"recipe": image.name, "version": image.version},
            "internalParameters": {
                "engine": __version__,
                "epoch": image.epoch,
                "layer_keys": {layer.role: layer.key for layer in image.layers},
                "source": {"commit": source.commit, "dirty": source.dirty},
            },
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"qtrade": __version__, "python": platform.python_version()}},
            "metadata": {"startedOn": _rfc3339(started), "finishedOn": _rfc3339(finished)},
            "byproducts": [
                {"name": f"layer {layer.role}", "digest": {"sha256": layer.digest}} for layer in image.layers
            ],
        },
    }


def sign_provenance(image: Image, predicate: dict[str, Any], key: SigningKey) -> dict[str, Any]:
    """Return the envelope that goes to `Store.attest`."""
    return key.envelope(STATEMENT_TYPE, statement(image.id, PROVENANCE, predicate))


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
