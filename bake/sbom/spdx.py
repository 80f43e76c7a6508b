"""An SBOM as SPDX 2.3 JSON."""

import hashlib
import re
from typing import Any

from bake.inventory import ImageInventory
from bake.sbom.identity import NAMESPACE, document_uuid, timestamp
from bake.sbom.parts import SPDX_IDS, Part
from qtrade import __version__

_PURPOSES = {"package": "LIBRARY", "component": "APPLICATION", "kernel": "OPERATING-SYSTEM", "initrd": "FILE"}
_ROOT = "SPDXRef-Image"


def render_spdx(inventory: ImageInventory, parts: tuple[Part, ...]) -> dict[str, Any]:
    """Return the document. Equal images give equal documents."""
    image = inventory.image
    ids = {part.ref: _spdx_id(part) for part in parts}
    others = sorted({name for part in parts for name in part.licences if name not in SPDX_IDS})
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image.name}-{image.version}",
        "documentNamespace": f"{NAMESPACE}/spdx/{document_uuid(image, 'spdx')}",
        "creationInfo": {"created": timestamp(image), "creators": [f"Tool: qtrade-{__version__}"]},
        "packages": [_image_package(inventory), *[_package(part, ids[part.ref]) for part in parts]],
        "hasExtractedLicensingInfos": [_licence_text(name) for name in others],
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": _ROOT, "relationshipType": "DESCRIBES"},
            *[
                {"spdxElementId": _ROOT, "relatedSpdxElement": ids[part.ref], "relationshipType": "CONTAINS"}
                for part in parts
            ],
        ],
    }


def _image_package(inventory: ImageInventory) -> dict[str, Any]:
    image = inventory.image
    return {
        "SPDXID": _ROOT,
        "name": image.name,
        "versionInfo": image.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "checksums": [{"algorithm": "SHA256", "checksumValue": image.id}],
        "comment": "\n".join(f"qtrade:layer:{layer.role}={layer.digest}" for layer in image.layers),
    }


def _package(part: Part, spdx_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "SPDXID": spdx_id,
        "name": part.name,
        "versionInfo": part.version,
        "supplier": f"Organization: {part.supplier}" if part.supplier else "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": _expression(part.licences),
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": _PURPOSES[part.kind],
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}
        ],
    }
    if part.sha256:
        fields["checksums"] = [{"algorithm": "SHA256", "checksumValue": part.sha256}]
    notes = [f"{name}={value}" for name, value in part.properties]
    if part.maintainer:
        notes.append(f"maintainer={part.maintainer}")
    if notes:
        fields["comment"] = "\n".join(notes)
    return fields


def _expression(names: tuple[str, ...]) -> str:
    """Return all licences that the copyright file names, for different files of the package, as one expression."""
    terms = sorted({SPDX_IDS.get(name) or _reference(name) for name in names})
    return " AND ".join(terms) or "NOASSERTION"


def _reference(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9.-]", "-", name)
    # Names that differ in a character that SPDX does not allow must not become one.
    return f"LicenseRef-{plain}" if plain == name else f"LicenseRef-{plain}-{_short(name)}"


def _licence_text(name: str) -> dict[str, Any]:
    where = "the text is in /usr/share/doc/<package>/copyright of the image"
    return {
        "licenseId": _reference(name),
        "name": name,
        "extractedText": f"What Debian's copyright files call {name}; {where}.",
    }


def _spdx_id(part: Part) -> str:
    return f"SPDXRef-{re.sub(r'[^A-Za-z0-9.-]', '-', part.name)}-{_short(part.ref)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
