"""What a bake took, for its provenance: the lock, every .deb, what components were built from, the tools root. No clock, no machine."""

import hashlib
from typing import Any

from bake.lock.check import lock_path
from bake.lock.document import Lock, LockedBuild, render_lock
from bake.purl import deb_purl
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings

_UBUNTU = ("jammy", "noble")


def resolved_dependencies(settings: Settings, recipe: Recipe, lock: Lock) -> list[dict[str, Any]]:
    """Return SLSA resource descriptors: the lock first, then packages in the lock's order, builds, the tools root if it is here."""
    digest = hashlib.sha256(render_lock(lock).encode()).hexdigest()
    found: list[dict[str, Any]] = [{"name": lock_path(settings, recipe).name, "digest": {"sha256": digest}}]
    vendor = "ubuntu" if lock.suite in _UBUNTU else "debian"
    for layer, packages in {BASE: lock.base, **lock.layers}.items():
        found += [
            {
                "name": package.file,
                "uri": deb_purl(
                    vendor, package.name, package.version, architecture=package.architecture, suite=lock.suite
                ),
                "digest": {"sha256": package.sha256},
                "annotations": {"layer": layer},
            }
            for package in packages
        ]
    for name, built in sorted(lock.components.items()):
        if isinstance(built, LockedBuild):
            found.append({"name": f"provenance of {name}", "digest": {"sha256": built.provenance}})
    return found + _tools_root(settings)


def _tools_root(settings: Settings) -> list[dict[str, Any]]:
    """Describe the tools root by its package database; a bake that built nothing may have none."""
    try:
        status = (settings.tools_dir / "var/lib/dpkg/status").read_bytes()
    except FileNotFoundError:
        return []
    annotations = {"file": "var/lib/dpkg/status"}
    return [
        {"name": "tools root", "digest": {"sha256": hashlib.sha256(status).hexdigest()}, "annotations": annotations}
    ]
