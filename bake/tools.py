"""The tools root of a lock: made of exactly its packages, so that the same lock gives the same programs on every machine.

Each set of packages has a root of its own, `roots/tools-<digest>`: recipes with equal tools share it. `roots/tools` leads to the one that
was made last, for commands that work without a lock.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bake.lock.document import LockedPackage, digest_packages
from qtrade.process import require_root
from qtrade.reporter import ConsoleReporter
from qtrade.settings import Settings
from qtrade.toolsroot import SUITE, ToolsRoot, debootstrap, has_tools, mark_tools


def ensure_tools(settings: Settings, packages: tuple[LockedPackage, ...]) -> ToolsRoot:
    """Return the tools root of these packages, made first if need be (root, about a minute, no network when the cache has them).

    Raises `NotFound` for packages that are nowhere to be had, `TrustError` for a changed .deb, `ToolError`.
    """
    target = settings.tools_dir.with_name(f"tools-{digest_packages(packages)[:16]}")
    if not has_tools(target):
        require_root("making the tools root")
        with _alone(target.parent):
            if not has_tools(target):
                _make(settings, packages, target)
                _point(settings, target)
    elif not has_tools(settings.tools_dir):
        with _alone(target.parent):
            _point(settings, target)
    return ToolsRoot(target)


def _make(settings: Settings, packages: tuple[LockedPackage, ...], target: Path) -> None:
    from bake.lock.debs import have_packages  # noqa: PLC0415
    from bake.lock.repository import make_repository  # noqa: PLC0415

    fresh = target.with_name("tools.new")
    shutil.rmtree(fresh, ignore_errors=True)
    have_packages(settings, packages, ConsoleReporter(quiet=True), suite=SUITE)
    make_repository(settings, packages, suite=SUITE, target=fresh / "repository")
    names = tuple(package.name for package in packages)
    debootstrap(settings, SUITE, names, fresh / "root", repository=fresh / "repository")
    mark_tools(fresh / "root")
    shutil.rmtree(target, ignore_errors=True)
    (fresh / "root").rename(target)
    shutil.rmtree(fresh)


def _point(settings: Settings, target: Path) -> None:
    link = settings.tools_dir
    if link.is_dir() and not link.is_symlink():  # of a version that had one root only
        shutil.rmtree(link)
    fresh = link.with_name("tools.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.replace(link)


@contextmanager
def _alone(roots: Path) -> Iterator[None]:
    """Let one process at a time make a root; others wait, since they need the same one."""
    roots.mkdir(parents=True, exist_ok=True)
    with (roots / "tools.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
