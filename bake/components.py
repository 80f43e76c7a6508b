"""Get the components of a recipe: things that are no Debian package of the base suite, each known by digest."""

import base64
import hashlib
import http.client
import shutil
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bake.inputs import hash_folder
from bake.plan import digest_of
from qtrade import process
from qtrade.errors import BadInput, NotFound, ToolError, TrustError
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import AptComponent, Component, SourceComponent, UrlComponent
from qtrade.settings import Settings

_TIMEOUT_S = 120
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """A component on this machine: a file or folder, and its SHA-256 (of a folder: over names and contents)."""

    name: str
    path: Path
    sha256: str
    version: str
    standin: bool


def fetch_components(settings: Settings, recipe: Recipe) -> dict[str, Fetched]:
    """Return every component of the recipe, downloaded and verified. Raises `NotFound`, `ToolError`, `TrustError`."""
    found = {}
    for name, component in recipe.components.items():
        path, digest = _fetch(settings, name, component)
        found[name] = Fetched(name, path, digest, component.version, component.standin)
    return found


def _fetch(settings: Settings, name: str, component: Component) -> tuple[Path, str]:
    match component:
        case SourceComponent():
            path = settings.project / component.path
            if not path.exists():
                raise NotFound(
                    f"component {name}: {path} does not exist",
                    resolution=f"correct components.{name}.path in the recipe",
                )
            return path, hash_folder(path, ignored=("__pycache__", "README.md"))
        case UrlComponent():
            return _fetch_url(settings, component), component.sha256
        case AptComponent():
            return _fetch_apt(settings, name, component)


def _fetch_url(settings: Settings, component: UrlComponent) -> Path:
    file_name = Path(urllib.parse.urlsplit(component.url).path).name
    return _download(settings, component.url, component.sha256, component.size, file_name)


def _fetch_apt(settings: Settings, name: str, component: AptComponent) -> tuple[Path, str]:
    repository = component.repository.replace("{state}", str(settings.state_dir)).rstrip("/")
    key = Path(component.key.replace("{state}", str(settings.state_dir)))
    remembered = settings.cache_dir / "apt" / digest_of([repository, component.model_dump(mode="json")])
    is_local = repository.startswith("file:")
    if not is_local and remembered.is_file():
        digest, file_name = remembered.read_text().split()
        path = settings.cache_dir / "blobs" / digest / file_name
        if _is_whole(path, digest):
            return path, digest
    release = _verified_release(settings, repository, component, _read_key(settings, key, name))
    packages_path = f"{component.section}/binary-amd64/Packages"
    wanted = _release_digest(release, packages_path, repository)
    packages = _read_url(f"{repository}/dists/{component.suite}/{packages_path}")
    if hashlib.sha256(packages).hexdigest() != wanted:
        raise TrustError(f"{repository}: Packages is not the file that InRelease names")
    entry = _find_package(packages.decode(), component, repository)
    digest, size = entry["SHA256"], int(entry["Size"])
    file_name = Path(entry["Filename"]).name
    path = _download(settings, f"{repository}/{entry['Filename']}", digest, size, file_name)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(f"{digest} {file_name}")
    return path, digest


def _read_key(settings: Settings, key: Path, name: str) -> Path:
    """Return the repository's key as a binary keyring, which is what gpgv reads."""
    if not key.is_absolute():
        key = settings.project / key
    try:
        text = key.read_text()
    except FileNotFoundError as error:
        hint = "run `make standins`" if "standins" in str(key) else "put the vendor's key there"
        raise NotFound(f"component {name}: there is no repository key at {key}", resolution=hint) from error
    body = text.split("-----BEGIN PGP PUBLIC KEY BLOCK-----", 1)[-1].split("-----END", 1)[0]
    lines = body.split("\n\n", 1)[-1].split()
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith("=")), validate=True)
    except ValueError as error:
        raise BadInput(f"component {name}: {key} is no ASCII-armoured OpenPGP key") from error
    ring = settings.work_dir / "keyrings" / hashlib.sha256(data).hexdigest()
    ring.parent.mkdir(parents=True, exist_ok=True)
    ring.write_bytes(data)
    return ring


def _verified_release(settings: Settings, repository: str, component: AptComponent, ring: Path) -> str:
    signed = settings.work_dir / "keyrings" / "InRelease"
    signed.write_bytes(_read_url(f"{repository}/dists/{component.suite}/InRelease"))
    done = process.run(["gpgv", "--status-fd", "2", "--keyring", ring, "--output", "-", signed], check=False)
    valid = [line.split() for line in done.stderr.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    if done.returncode != 0 or not valid:
        raise TrustError(f"{repository}: the signature of InRelease does not hold", details=done.stderr)
    if component.fingerprint and component.fingerprint not in (valid[0][2], valid[0][-1]):
        raise TrustError(
            f"{repository}: InRelease is signed by {valid[0][-1]}, not by {component.fingerprint}",
            resolution="compare with the vendor's published fingerprint before you change the recipe",
        )
    return done.stdout


def _release_digest(release: str, path: str, repository: str) -> str:
    section = release.split("\nSHA256:\n", 1)[-1]
    for line in section.splitlines():
        if not line.startswith(" "):
            break
        digest, _, name = line.split()
        if name == path:
            return digest
    raise NotFound(f"{repository}: InRelease names no {path}")


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


def _download(settings: Settings, url: str, sha256: str, size: int, file_name: str) -> Path:
    target = settings.cache_dir / "blobs" / sha256 / file_name
    if _is_whole(target, sha256):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{file_name}.new")
    total = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as source, fresh.open("wb") as sink:  # noqa: S310 - from the recipe
            while chunk := source.read(_CHUNK):
                total.update(chunk)
                sink.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise ToolError(f"cannot download {url}", details=str(error)) from error
    if total.hexdigest() != sha256 or fresh.stat().st_size != size:
        found = f"{fresh.stat().st_size} bytes, sha256 {total.hexdigest()}"
        fresh.unlink()
        raise TrustError(
            f"{url} is not the file that was pinned", details=f"wanted {size} bytes, {sha256}\nfound  {found}"
        )
    shutil.move(fresh, target)
    return target


def _is_whole(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == sha256


def _read_url(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as source:  # noqa: S310 - from the recipe
            content: bytes = source.read()
            return content
    except (OSError, http.client.HTTPException) as error:
        hint = "run `make standins`" if "standins" in url else "check the address and the network"
        raise ToolError(f"cannot read {url}", details=str(error), resolution=hint) from error
