"""What a bake took, for its provenance: the lock, every .deb, what components were built from, the tools. No clock, no machine."""

import hashlib
from typing import Any

from bake.lock.check import lock_path
from bake.lock.document import Lock, LockedBuild, LockedPackage, render_lock
from bake.purl import deb_purl
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from qtrade.toolsroot import SUITE as TOOLS_SUITE

_UBUNTU = ("jammy", "noble")


def resolved_dependencies(settings: Settings, recipe: Recipe, lock: Lock) -> list[dict[str, Any]]:
    """Return SLSA resource descriptors: the lock first, then packages in the lock's order, then builds.

    The annotation `part` says what a package is for: `base`, `layer ROLE`, `tools` (the programs that make images). What a component was
    built with stands in that build's own provenance.
    """
    digest = hashlib.sha256(render_lock(lock).encode()).hexdigest()
    found: list[dict[str, Any]] = [{"name": lock_path(settings, recipe).name, "digest": {"sha256": digest}}]
    for part, packages in lock.packages().items():
        if not part.startswith("builder "):
            suite = TOOLS_SUITE if part == "tools" else lock.suite
            found += [_describe(package, part, suite) for package in packages]
    for name, built in sorted(lock.components.items()):
        if isinstance(built, LockedBuild):
            found.append({"name": f"provenance of {name}", "digest": {"sha256": built.provenance}})
    return found


def _describe(package: LockedPackage, part: str, suite: str) -> dict[str, Any]:
    vendor = "ubuntu" if suite in _UBUNTU else "debian"
    return {
        "name": package.file,
        "uri": deb_purl(vendor, package.name, package.version, architecture=package.architecture, suite=suite),
        "digest": {"sha256": package.sha256},
        "annotations": {"part": part},
    }
