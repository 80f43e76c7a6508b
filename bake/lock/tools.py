"""The tools root for people and tests, who have no bake at hand: `qtrade tools`."""

import shutil

from bake.lock.cache import lock_work
from bake.lock.check import lock_path
from bake.lock.debs import have_packages
from bake.lock.document import LockedPackage, read_lock
from bake.lock.packages import open_archive
from bake.lock.wants import tools_wanted
from bake.tools import ensure_tools
from qtrade.manifest import load_recipe_named
from qtrade.process import require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.toolsroot import SUITE, ToolsRoot, has_tools


def provide_tools(settings: Settings, name: str, reporter: Reporter) -> ToolsRoot:
    """Return the tools root of the lock of recipe `name`; without a lock that fits, any that is there, or one of today's packages."""
    recipe = load_recipe_named(settings, name)
    lock = read_lock(lock_path(settings, recipe))
    if lock and lock.wants.get("tools") == tools_wanted():
        return ensure_tools(settings, lock.tools)
    if has_tools(settings.tools_dir):
        return ToolsRoot(settings.tools_dir.resolve())
    return ensure_tools(settings, resolve_tools(settings, reporter))


def resolve_tools(settings: Settings, reporter: Reporter) -> tuple[LockedPackage, ...]:
    """Return the packages that a lock of today would have; their bytes are in the cache then."""
    require_root("reading a suite's package index")
    work = lock_work(settings).with_name("tools-work")
    archive = open_archive(settings, SUITE, work)
    packages = archive.resolve_tools()
    have_packages(settings, packages, reporter, suite=SUITE, archive=archive)
    shutil.rmtree(work)
    return packages
