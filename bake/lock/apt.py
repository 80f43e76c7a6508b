"""Lock one .deb of a vendor's signed apt repository."""

import base64
import gzip
import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path

from bake.lock import web
from bake.lock.cache import lock_work
from bake.lock.document import LockedFile
from bake.lock.download import Wanted, fetch
from bake.lock.wants import local_path
from qtrade import process
from qtrade.errors import BadInput, NotFound, TrustError
from qtrade.manifest.component import AptComponent
from qtrade.settings import Settings

_UNPACK: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress, "": bytes}


def lock_apt(settings: Settings, name: str, component: AptComponent) -> LockedFile:
    """Return the lock of the package; its bytes are in the cache then.

    The chain: pinned key -> signature of InRelease (or Release and Release.gpg) -> digest of Packages -> digest of the .deb.
    Raises `NotFound` naming the versions there are, `ToolError`, `TrustError`.
    """
    work = lock_work(settings) / f"apt-{name}"
    work.mkdir(parents=True, exist_ok=True)
    repository = _root(settings, component)
    release, signer = _read_release(repository, component, _read_key(settings, component, name, work), work)
    packages = _read_packages(repository, component, release)
    entry = _find_package(packages.decode(), component, repository)
    locked = LockedFile(
        version=component.version,
        address=entry["Filename"],
        file=Path(entry["Filename"]).name,
        sha256=entry["SHA256"],
        size=int(entry["Size"]),
        digest_from="Packages",
        signed_by=signer,
    )
    fetch(settings, wanted_package(settings, name, locked, component))
    return locked


def wanted_package(settings: Settings, name: str, locked: LockedFile, component: AptComponent) -> Wanted:
    """Return how to have a locked package again."""
    address = f"{_root(settings, component)}/{locked.address}"
    return Wanted(f"component {name} {locked.version}", locked.file, locked.sha256, locked.size, (address,))


def _root(settings: Settings, component: AptComponent) -> str:
    return local_path(settings, component.repository).rstrip("/")


def _read_key(settings: Settings, component: AptComponent, name: str, work: Path) -> Path:
    """Return the repository's key as a binary keyring, which is what gpgv reads."""
    place = local_path(settings, component.key)
    if place.startswith(("http:", "https:")):
        content = web.read_address(place)
    else:
        key = settings.find(place)
        try:
            content = key.read_bytes()
        except FileNotFoundError as error:
            hint = "run `make standins` (docs/install.md)" if "standins" in place else "put the vendor's key there"
            raise NotFound(f"component {name}: there is no repository key at {key}", resolution=hint) from error
    if b"-----BEGIN" in content or content[:1] < b"\x80":
        content = _remove_armour(content, f"component {name}: {place}")
    ring = work / "ring.gpg"
    ring.write_bytes(content)
    return ring


def _remove_armour(content: bytes, place: str) -> bytes:
    blocks = content.decode(errors="replace").split("-----BEGIN PGP PUBLIC KEY BLOCK-----")[1:]
    data = b""
    try:
        for block in blocks:
            lines = block.split("-----END", 1)[0].replace("\r", "").split("\n\n", 1)[-1].split()
            data += base64.b64decode("".join(line for line in lines if not line.startswith("=")), validate=True)
    except ValueError as error:
        raise BadInput(f"{place} is no ASCII-armoured OpenPGP key") from error
    if not data:
        raise BadInput(f"{place} is no ASCII-armoured OpenPGP key")
    return data


def _read_release(repository: str, component: AptComponent, ring: Path, work: Path) -> tuple[str, str]:
    """Return the signed text of the release file and the fingerprint of the key that signed it."""
    suite = f"{repository}/dists/{component.suite}"
    signed = work / "InRelease"
    try:
        signed.write_bytes(web.read_address(f"{suite}/InRelease"))
        files = [signed]
    except NotFound:
        text, signature = work / "Release", work / "Release.gpg"
        text.write_bytes(web.read_address(f"{suite}/Release"))
        signature.write_bytes(web.read_address(f"{suite}/Release.gpg"))
        files = [signature, text]
    output = ("--output", "-") if len(files) == 1 else ()
    done = process.run(["gpgv", "--status-fd", "2", "--keyring", ring, *output, *files], check=False)
    valid = [line.split() for line in done.stderr.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    if done.returncode != 0 or not valid:
        raise TrustError(f"{repository}: the signature of {files[-1].name} does not hold", details=done.stderr)
    signers = {fingerprint for line in valid for fingerprint in (line[2], line[-1])}
    if component.fingerprints and not signers & set(component.fingerprints):
        raise TrustError(
            f"{repository}: {files[-1].name} is signed by {valid[0][-1]}, not by {' or '.join(component.fingerprints)}",
            resolution="compare with the vendor's published fingerprint before you change the recipe",
        )
    return (done.stdout if len(files) == 1 else files[1].read_text()), valid[0][-1]


def _read_packages(repository: str, component: AptComponent, release: str) -> bytes:
    base = f"{component.section}/binary-amd64/Packages"
    digests = _release_digests(release)
    for suffix, unpack in _UNPACK.items():
        if f"{base}{suffix}" not in digests:
            continue
        try:
            content = web.read_address(f"{repository}/dists/{component.suite}/{base}{suffix}")
        except NotFound:
            continue  # a release file may name forms that the server does not keep
        if hashlib.sha256(content).hexdigest() != digests[f"{base}{suffix}"]:
            raise TrustError(f"{repository}: Packages{suffix} is not the file that the release file names")
        return unpack(content)
    raise NotFound(f"{repository}: the release file names no {base}")


def _release_digests(release: str) -> dict[str, str]:
    digests = {}
    for line in release.split("\nSHA256:", 1)[-1].splitlines()[1:]:
        if not line.startswith(" "):
            break
        digest, _, name = line.split()
        digests[name] = digest
    return digests


def _find_package(packages: str, component: AptComponent, repository: str) -> dict[str, str]:
    versions = []
    for paragraph in packages.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
        )
        if fields.get("Package") == component.package:
            versions.append(fields.get("Version", ""))
            if fields.get("Version") == component.version:
                return fields
    raise NotFound(
        f"{repository} has no {component.package}={component.version}",
        details=f"versions there: {', '.join(versions) or 'none'}",
        resolution="correct the version in the recipe",
    )
