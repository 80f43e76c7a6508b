"""An SBOM as CycloneDX 1.6 JSON."""

from typing import Any

from bake.inventory import ImageInventory
from bake.sbom.identity import document_uuid, timestamp
from bake.sbom.parts import SPDX_IDS, Part
from qtrade import __version__

_TYPES = {"package": "library", "component": "application", "kernel": "operating-system", "initrd": "file"}


def render_cyclonedx(inventory: ImageInventory, parts: tuple[Part, ...]) -> dict[str, Any]:
    """Return the document. Equal images give equal documents."""
    image = inventory.image
    root = f"qtrade:image:{image.id}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{document_uuid(image, 'cyclonedx')}",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(image),
            "tools": {"components": [{"type": "application", "name": "qtrade", "version": __version__}]},
            "component": {
                "type": "operating-system",
                "bom-ref": root,
                "name": image.name,
                "version": image.version,
                "hashes": [{"alg": "SHA-256", "content": image.id}],
                "properties": [{"name": f"qtrade:layer:{layer.role}", "value": layer.digest} for layer in image.layers],
            },
        },
        "components": [_component(part) for part in parts],
        "dependencies": [{"ref": root, "dependsOn": [part.ref for part in parts]}],
    }


def _component(part: Part) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": _TYPES[part.kind],
        "bom-ref": part.ref,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
    }
    if part.supplier:
        fields["supplier"] = {"name": part.supplier}
    if part.maintainer:
        fields["publisher"] = part.maintainer
    if part.sha256:
        fields["hashes"] = [{"alg": "SHA-256", "content": part.sha256}]
    if part.licences:
        fields["licenses"] = _licences(part.licences)
    if part.properties:
        fields["properties"] = [{"name": name, "value": value} for name, value in part.properties]
    return fields


def _licences(names: tuple[str, ...]) -> list[dict[str, Any]]:
    ids = sorted({SPDX_IDS[name] for name in names if name in SPDX_IDS})
    others = [name for name in names if name not in SPDX_IDS]
    return [{"license": {"id": known}} for known in ids] + [{"license": {"name": name}} for name in others]
