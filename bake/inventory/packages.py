"""The Debian packages of an image, from the topmost dpkg database."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bake.inventory.tree import Tree

_STATUS = "var/lib/dpkg/status"
_SOURCE = re.compile(r"(\S+)(?:\s+\((\S+)\))?")
# Signed kernels are built from `linux`, and the security tracker speaks of that; the binary's version is `linux`'s.
_SIGNED_KERNEL = re.compile(r"linux-signed-\w+")
_KERNEL_SOURCE = "linux"


@dataclass(frozen=True)
class Package:
    """An installed Debian package. `source` and `source_version` are what the security tracker knows it by.

    `layer` is the lowest layer whose database has this version; `licences` the short names of its copyright file.
    """

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    maintainer: str
    layer: str
    licences: tuple[str, ...] = ()


def installed_packages(tree: Tree) -> tuple[Package, ...]:
    """Return the installed packages, sorted by name and architecture; none when no layer has a dpkg database."""
    text = tree.text(_STATUS)
    if text is None:
        return ()
    first: dict[tuple[str, str, str], str] = {}
    for role, inventory in tree.layers:
        for fields in _installed(inventory.texts.get(_STATUS, "")):
            first.setdefault(_identity(fields), role)
    found = [_package(fields, first[_identity(fields)], tree) for fields in _installed(text)]
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def _identity(fields: dict[str, str]) -> tuple[str, str, str]:
    return fields["Package"], fields["Version"], fields.get("Architecture", "")


def _package(fields: dict[str, str], layer: str, tree: Tree) -> Package:
    name, version = fields["Package"], fields["Version"]
    source, source_version = name, version
    if match := _SOURCE.match(fields.get("Source", "")):
        source, source_version = match[1], match[2] or version
    if _SIGNED_KERNEL.fullmatch(source):
        source, source_version = _KERNEL_SOURCE, version
    return Package(
        name=name,
        version=version,
        architecture=fields.get("Architecture", ""),
        source=source,
        source_version=source_version,
        maintainer=fields.get("Maintainer", ""),
        layer=layer,
        licences=tree.licences(f"usr/share/doc/{name}/copyright"),
    )


def _installed(text: str) -> Iterator[dict[str, str]]:
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line[:1].strip() and ": " in line]
        fields = dict(line.split(": ", 1) for line in lines)
        # `Status` is want, error flag, state: a package whose files are there is installed, whatever is wanted of it.
        if fields.get("Status", "").split()[-1:] == ["installed"] and {"Package", "Version"} <= fields.keys():
            yield fields
