"""Lock components that are one file at an address or an asset of a GitHub release."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bake.lock import web
from bake.lock.checksums import find_checksum
from bake.lock.document import LockedFile
from bake.lock.download import Wanted, fetch, fetch_unknown
from qtrade.errors import NotFound, TrustError
from qtrade.manifest.component import GithubComponent, UrlComponent
from qtrade.settings import Settings

_RAW = {"Accept": "application/octet-stream"}


@dataclass(frozen=True)
class _Claim:
    """A digest and who named it."""

    sha256: str
    origin: str


def lock_url(settings: Settings, name: str, component: UrlComponent) -> LockedFile:
    """Return the lock of a file at an address; its bytes are in the cache then. Raises `NotFound`, `ToolError`, `TrustError`."""
    url = component.expand(component.url)
    file = web.file_name(url)
    claims = [_Claim(component.sha256, "recipe")] if component.sha256 else []
    if component.checksums:
        address = component.expand(component.checksums)
        text = web.read_address(address).decode(errors="replace")
        claims.append(_Claim(find_checksum(text, file, source=address), f"checksums {address}"))
    claim = _agreed(name, claims)
    return _take(settings, name, component.version, _Place(url, file, component.size), claim)


def lock_github(settings: Settings, name: str, component: GithubComponent) -> LockedFile:
    """Return the lock of a release's asset; its bytes are in the cache then.

    GitHub's own digest, upstream's checksum file and the recipe must agree as far as they are there. Raises `NotFound` listing the
    assets there are, `ToolError`, `TrustError`.
    """
    token = web.read_token(component.api)
    if component.private and not token:
        raise NotFound(
            f"component {name}: its release is private and {web.TOKEN_VARIABLE} is not set",
            resolution=f"set {web.TOKEN_VARIABLE} to a token that may read {component.repository}; it is used by `qtrade lock` only",
        )
    tag = component.expand(component.tag)
    api = component.api.rstrip("/")
    release = f"{api}/repos/{component.repository}/releases/tags/{quote(tag, safe='')}"
    assets = {asset["name"]: asset for asset in web.read_json(release, token=token).get("assets", [])}
    asset = _asset(name, assets, component.expand(component.asset), f"{component.repository} {tag}")
    claims = [_Claim(component.sha256, "recipe")] if component.sha256 else []
    if str(asset.get("digest") or "").startswith("sha256:"):
        claims.append(_Claim(asset["digest"].removeprefix("sha256:"), "GitHub release"))
    place = _place(name, asset, component, token)
    if component.checksums:
        listing = _asset(name, assets, component.expand(component.checksums), f"{component.repository} {tag}")
        source = _place(name, listing, component, token)
        text = web.read_address(source.address, headers=source.headers, token=source.token).decode(errors="replace")
        claims.append(
            _Claim(find_checksum(text, asset["name"], source=listing["name"]), f"checksums {listing['name']}")
        )
    return _take(settings, name, component.version, place, _agreed(name, claims))


def wanted_file(name: str, locked: LockedFile, component: UrlComponent | GithubComponent) -> Wanted:
    """Return how to have a locked file again."""
    private = isinstance(component, GithubComponent) and component.private
    if isinstance(component, GithubComponent) and private:
        _check_server(name, locked.address, component)
    return Wanted(
        what=f"component {name} {locked.version}",
        file=locked.file,
        sha256=locked.sha256,
        size=locked.size,
        addresses=(locked.address,),
        headers=tuple(_RAW.items()) if private else (),
        token=web.read_token(locked.address) if private else None,
    )


@dataclass(frozen=True)
class _Place:
    """Where a file is, and how to ask for it."""

    address: str
    file: str
    size: int | None = None
    headers: dict[str, str] | None = None
    token: str | None = None


def _place(name: str, asset: dict[str, Any], component: GithubComponent, token: str | None) -> _Place:
    if component.private:
        _check_server(name, asset["url"], component)
        return _Place(asset["url"], asset["name"], asset["size"], _RAW, token)
    return _Place(asset["browser_download_url"], asset["name"], asset["size"])


def _check_server(name: str, address: str, component: GithubComponent) -> None:
    """Raise `TrustError` unless an asset is where the API is: nobody else may get the token."""
    if web.server_of(address) != web.server_of(component.api):
        raise TrustError(
            f"component {name}: its private asset is said to be at another server than the API's",
            details=f"  API   {component.api}\n  asset {web.shown(address)}",
            resolution="correct api in the recipe, or find out who changed the answer; the token was not sent there",
        )


def _asset(name: str, assets: dict[str, Any], wanted: str, release: str) -> Any:
    if wanted not in assets:
        raise NotFound(
            f"component {name}: the release {release} has no asset {wanted}",
            details=f"assets there: {', '.join(sorted(assets)) or 'none'}",
            resolution="correct asset, checksums or version in the recipe",
        )
    return assets[wanted]


def _agreed(name: str, claims: list[_Claim]) -> _Claim | None:
    if len({claim.sha256 for claim in claims}) > 1:
        lines = [f"  {claim.sha256} ({claim.origin})" for claim in claims]
        raise TrustError(
            f"component {name}: those who name its digest do not agree",
            details="\n".join(lines),
            resolution="find out from upstream which one is right; take nothing until then",
        )
    return claims[-1] if claims else None


def _take(settings: Settings, name: str, version: str, place: _Place, claim: _Claim | None) -> LockedFile:
    if claim is None or place.size is None:
        path, sha256, size = fetch_unknown(
            settings, place.address, place.file, headers=place.headers, token=place.token
        )
        if (claim and claim.sha256 != sha256) or (place.size is not None and place.size != size):
            path.unlink()
            expected = f"{place.size or 'any number of'} bytes, {claim.sha256 if claim else 'any digest'}"
            raise TrustError(
                f"component {name}: {place.address} is not the file that was pinned",
                details=f"  expected {expected}{f' ({claim.origin})' if claim else ''}\n  found    {size} bytes, {sha256}",
            )
    else:
        sha256, size = claim.sha256, place.size
        headers = tuple((place.headers or {}).items())
        fetch(settings, Wanted(f"component {name}", place.file, sha256, size, (place.address,), headers, place.token))
    origin = claim.origin if claim else "first fetch"
    return LockedFile(
        version=version, address=place.address, file=place.file, sha256=sha256, size=size, digest_from=origin
    )
