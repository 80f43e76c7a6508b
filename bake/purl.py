"""Package URLs (https://github.com/package-url/purl-spec): one name for a package everywhere."""

from urllib.parse import quote


def deb_purl(vendor: str, name: str, version: str, *, architecture: str, suite: str) -> str:
    """Return the package URL of a .deb; `vendor` is the ID of its distribution's os-release."""
    qualifiers = f"arch={architecture}" + (f"&distro={suite}" if suite else "")
    return f"pkg:deb/{vendor}/{_encode(name)}@{_encode(version)}?{qualifiers}"


def generic_purl(name: str, version: str, sha256: str) -> str:
    """Return the package URL of something that no package manager knows."""
    return f"pkg:generic/{_encode(name)}@{_encode(version)}?checksum=sha256:{sha256}"


def _encode(text: str) -> str:
    return quote(text, safe=":~-._")
