"""A local apt repository that holds exactly the locked .debs, so that no other version and no network can slip into a bake."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bake.lock.cache import cached_path, check_bytes, link_or_copy
from bake.lock.document import LockedPackage
from qtrade import process
from qtrade.errors import NotFound
from qtrade.settings import Settings

SECTION = "main"


def make_repository(settings: Settings, packages: Iterable[LockedPackage], *, suite: str, target: Path) -> None:
    """Make the repository in the folder `target`.

    Every .deb is read once and compared with the lock. Raises `TrustError` naming package and file for a changed byte, and `NotFound`
    for packages that the cache does not have.
    """
    pool = target / "pool"
    binary = target / "dists" / suite / SECTION / "binary-amd64"
    for folder in (pool, binary):
        folder.mkdir(parents=True)
    missing = []
    for package in packages:
        path = cached_path(settings, package.sha256, package.file)
        if not path.is_file():
            missing.append(package)
            continue
        check_bytes(path, package.sha256, what=f"package {package.name} {package.version}")
        link_or_copy(path, pool / package.file)
    if missing:
        raise absent_packages(missing)
    no_others = [option for name in ("MD5", "SHA1", "SHA512") for option in ("-o", f"APT::FTPArchive::{name}=false")]
    index = process.run(["apt-ftparchive", *no_others, "packages", "pool"], cwd=target).stdout.encode()
    (binary / "Packages").write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    (target / "dists" / suite / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: {SECTION}\n"
        f"SHA256:\n {digest} {len(index)} {SECTION}/binary-amd64/Packages\n"
    )


def source_line(place: str, suite: str) -> str:
    """Return the line of sources.list for a repository at `place` (with its scheme). It is trusted: its bytes were checked."""
    return f"deb [trusted=yes] {place} {suite} {SECTION}"


def absent_packages(packages: Iterable[LockedPackage]) -> NotFound:
    """Return the error for locked packages that are nowhere to be had."""
    lines = [f"  {package.name} {package.version} ({package.filename}, {package.sha256})" for package in packages]
    return NotFound(
        f"{len(lines)} locked package(s) are neither in the cache nor at the mirror",
        details="\n".join(lines),
        resolution="run `qtrade lock --fetch`; if the mirror has dropped these versions: `qtrade lock --update`, or copy "
        "cache/blobs from a machine that baked with this lock",
    )
