"""Releases: what was published, on record in the project (manifests/releases), so that history tells what a version was."""

from pathlib import Path
from typing import Literal

from qtrade.errors import ConflictError
from qtrade.manifest import Image, load_manifest
from qtrade.manifest.base import Model, Name, Sha256, Version
from qtrade.manifest.image import ImageComponent, canonical_json
from qtrade.store.local import LocalObjects
from qtrade.store.objects import Exists


class Release(Model):
    """A published version. `layers` maps each role to its layer's digest; `sequence` counts the releases of the recipe."""

    schema_version: Literal[1] = 1
    name: Name
    version: Version
    id: Sha256
    sequence: int
    layers: dict[str, Sha256]
    kernel: Sha256
    initrd: Sha256
    installer: Sha256
    components: tuple[ImageComponent, ...]


def record_release(project: Path, image: Image) -> Path:
    """Write manifests/releases/<recipe>/<version>.json (canonical JSON, no clock) and return its path.

    The same image again changes nothing. Raises `ConflictError` when the version is on record with another id, `BadInput`
    for a record that cannot be read.
    """
    releases = LocalObjects(project / "manifests/releases")
    known = [load_manifest(Release, releases.root / entry.key) for entry in releases.list(f"{image.name}/")]
    path = releases.root / image.name / f"{image.version}.json"
    same = next((release for release in known if release.version == image.version), None)
    if same is None:
        release = Release(
            name=image.name,
            version=image.version,
            id=image.id,
            sequence=max((other.sequence for other in known), default=0) + 1,
            layers={layer.role: layer.digest for layer in image.layers},
            kernel=image.kernel.digest,
            initrd=image.initrd.digest,
            installer=image.installer.digest,
            components=image.components,
        )
        content = canonical_json(release.model_dump(mode="json")).encode() + b"\n"
        try:
            releases.put_new(f"{image.name}/{image.version}.json", content)
        except Exists:
            same = load_manifest(Release, path)
    if same is not None and same.id != image.id:
        raise ConflictError(
            f"{path} records another id",
            details=f"on record: {same.id}\nthe image: {image.id}",
            resolution="bake under another version: a version is written once",
        )
    return path
