"""What an image is made of, as both kinds of SBOM list it."""

from dataclasses import dataclass

from bake.inventory import ImageInventory, Package
from bake.purl import deb_purl, generic_purl
from qtrade.manifest.image import ImageComponent

# Debian's short names -> SPDX ids, where the licence is the same beyond doubt. All others keep their name.
SPDX_IDS = {
    "0BSD": "0BSD",
    "Apache-2.0": "Apache-2.0",
    "BSD-2-clause": "BSD-2-Clause",
    "BSD-3-clause": "BSD-3-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "BSD-4-clause": "BSD-4-Clause",
    "BSL-1.0": "BSL-1.0",
    "CC0-1.0": "CC0-1.0",
    "Expat": "MIT",
    "FSFAP": "FSFAP",
    "FSFULLR": "FSFULLR",
    "GFDL-1.3+": "GFDL-1.3-or-later",
    "GPL-1+": "GPL-1.0-or-later",
    "GPL-2": "GPL-2.0-only",
    "GPL-2+": "GPL-2.0-or-later",
    "GPL-3": "GPL-3.0-only",
    "GPL-3+": "GPL-3.0-or-later",
    "ISC": "ISC",
    "LGPL-2": "LGPL-2.0-only",
    "LGPL-2+": "LGPL-2.0-or-later",
    "LGPL-2.0-or-later": "LGPL-2.0-or-later",
    "LGPL-2.1": "LGPL-2.1-only",
    "LGPL-2.1+": "LGPL-2.1-or-later",
    "LGPL-3": "LGPL-3.0-only",
    "LGPL-3+": "LGPL-3.0-or-later",
    "MPL-1.1": "MPL-1.1",
    "MPL-2.0": "MPL-2.0",
    "OFL-1.1": "OFL-1.1",
    "PostgreSQL": "PostgreSQL",
    "Unicode-DFS-2016": "Unicode-DFS-2016",
    "X11": "X11",
    "Zlib": "Zlib",
    "zlib": "Zlib",
}


@dataclass(frozen=True)
class Part:
    """A package, a component or a blob of an image.

    `ref` is unique in the image; `sha256` is empty for packages, whose .deb is not kept; `properties` are pairs.
    """

    ref: str
    name: str
    version: str
    purl: str
    kind: str
    sha256: str = ""
    maintainer: str = ""
    supplier: str = ""
    licences: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()


def parts_of(inventory: ImageInventory) -> tuple[Part, ...]:
    """Return the parts of an image, sorted by their refs.

    A component that apt installed stands once, as a component: it is no package of the distribution.
    """
    image = inventory.image
    components = {component.name: component for component in image.components}
    parts = []
    for package in inventory.packages:
        component = components.get(package.name)
        if component is not None and component.version == package.version:
            parts.append(_component(component, package))
            del components[package.name]
        else:
            parts.append(_package(package, inventory.system))
    parts += [_component(component, None) for component in components.values()]
    parts += [
        _blob("linux-kernel", image.kernel_release, image.kernel.digest, "kernel"),
        _blob("initrd", image.kernel_release, image.initrd.digest, "initrd"),
    ]
    return tuple(sorted(parts, key=lambda part: part.ref))


def package_purl(package: Package, system: dict[str, str]) -> str:
    """Return the package URL of a package of an image with this os-release."""
    vendor, suite = system.get("ID", "debian"), system.get("VERSION_CODENAME", "")
    return deb_purl(vendor, package.name, package.version, architecture=package.architecture, suite=suite)


def _package(package: Package, system: dict[str, str]) -> Part:
    purl = package_purl(package, system)
    return Part(
        ref=purl,
        name=package.name,
        version=package.version,
        purl=purl,
        kind="package",
        maintainer=package.maintainer,
        supplier=system.get("NAME", ""),
        licences=package.licences,
        properties=_package_properties(package),
    )


def _package_properties(package: Package) -> tuple[tuple[str, str], ...]:
    return (
        ("qtrade:architecture", package.architecture),
        ("qtrade:layer", package.layer),
        ("qtrade:source", package.source),
        ("qtrade:source-version", package.source_version),
    )


def _component(component: ImageComponent, package: Package | None) -> Part:
    purl = generic_purl(component.name, component.version, component.sha256)
    properties = [("qtrade:standin", "true" if component.standin else "false")]
    if package is not None:
        properties += _package_properties(package)
    return Part(
        ref=purl,
        name=component.name,
        version=component.version,
        purl=purl,
        kind="component",
        sha256=component.sha256,
        maintainer=package.maintainer if package else "",
        licences=package.licences if package else (),
        properties=tuple(sorted(properties)),
    )


def _blob(name: str, version: str, digest: str, kind: str) -> Part:
    purl = generic_purl(name, version, digest)
    return Part(ref=purl, name=name, version=version, purl=purl, kind=kind, sha256=digest)
