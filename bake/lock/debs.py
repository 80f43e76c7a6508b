"""Have the bytes of locked packages in the cache."""

from collections.abc import Iterable
from urllib.parse import quote

from bake.lock.cache import adopt, cached_path, lock_work, sha256_of
from bake.lock.document import LockedPackage
from bake.lock.download import Wanted, fetch_all
from bake.lock.packages import Archive, open_archive
from bake.lock.repository import absent_packages
from qtrade.errors import NotFound, ToolError
from qtrade.process import require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings


def have_packages(
    settings: Settings,
    packages: Iterable[LockedPackage],
    reporter: Reporter,
    *,
    suite: str,
    archive: Archive | None = None,
) -> None:
    """Download what the cache lacks: nothing, no network, when it has all. Raises `NotFound` naming the packages that are gone.

    An old version that the mirror's index has dropped is often still in its pool, so the file name is enough.
    """
    missing = [package for package in packages if not _is_here(settings, package, suite)]
    if not missing:
        return
    if archive is None:
        require_root("reading a suite's package index")
        try:
            archive = open_archive(settings, suite, lock_work(settings) / "mirror")
        except ToolError as error:
            absent = absent_packages(missing)
            raise NotFound(
                absent.brief, details=f"{absent.details}\n{error.details}", resolution=absent.resolution
            ) from error
    roots = archive.addresses()
    wanted = [
        Wanted(
            what=f"package {package.name} {package.version}",
            file=package.file,
            sha256=package.sha256,
            size=package.size,
            addresses=tuple(f"{root}/{quote(package.filename)}" for root in roots),
        )
        for package in missing
    ]
    try:
        fetch_all(settings, wanted, reporter)
    except NotFound as error:
        raise absent_packages(package for package in missing if not _is_here(settings, package, suite)) from error


def _is_here(settings: Settings, package: LockedPackage, suite: str) -> bool:
    """Return whether the cache has the file; one that mmdebstrap kept for the tools root is taken over if it is the right one."""
    if cached_path(settings, package.sha256, package.file).is_file():
        return True
    kept = settings.cache_dir / "debs" / suite / package.file
    if not kept.is_file() or kept.stat().st_size != package.size or sha256_of(kept) != package.sha256:
        return False
    adopt(kept, settings, package.sha256)
    return True
