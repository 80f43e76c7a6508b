"""Make a lock and keep it: what `qtrade lock` does."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from bake import packer
from bake.components import list_components
from bake.components.builder import BuildJob, build_component, build_key
from bake.components.take import have_component
from bake.lock.apt import lock_apt
from bake.lock.cache import cached_path, check_bytes, lock_work
from bake.lock.check import check_lock, lock_path, written_lock_path
from bake.lock.debs import have_packages
from bake.lock.difference import Change, check_alarms, compare_locks
from bake.lock.document import Lock, LockedBuild, LockedComponent, LockedPackage, read_lock, write_lock
from bake.lock.files import lock_github, lock_url
from bake.lock.git import resolve_tag
from bake.lock.packages import Archive, open_archive
from bake.lock.wants import is_locked, read_collections, read_wants, stale_parts
from qtrade.errors import ConflictError, NotFound
from qtrade.manifest import Recipe
from qtrade.manifest.component import AptComponent, GithubComponent, SourceComponent, UrlComponent
from qtrade.process import require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.toolsroot import SUITE


@dataclass(frozen=True)
class Request:
    """What a person asked for: `everything` new, or `names` (components and packages, with a version or None) new; the rest holds."""

    everything: bool = False
    names: dict[str, str | None] = field(default_factory=dict)
    accepted: frozenset[str] = frozenset()
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """The lock, what changed, and what a dry run left out because it would have to build it."""

    lock: Lock
    changes: tuple[Change, ...]
    unbuilt: tuple[str, ...] = ()


def update_lock(settings: Settings, store: Store, recipe: Recipe, request: Request, reporter: Reporter) -> Outcome:
    """Bring the lock in line with recipe and request, have all its bytes in the cache, and write it, unless it is a dry run.

    What is locked holds: only what the recipe newly asks for, or what `request` names, is looked up. Raises `TrustError` when upstream
    has other bytes at the same version, and the errors of the look-ups.
    """
    with _alone(settings):
        return _Update(settings, store, recipe, request, reporter).run()


def fetch_locked(settings: Settings, store: Store, recipe: Recipe, reporter: Reporter) -> Lock:
    """Have every locked byte in the cache, and compare all of them with the lock. Raises `NotFound`, `TrustError`, `ToolError`."""
    lock = check_lock(settings, recipe)
    with _alone(settings), reporter.step(f"fetch the lock of {recipe.name}"):
        packer.locate(settings)  # from the network where the machine has none; a bake finds it then
        for suite, packages in lock.by_suite().items():
            have_packages(settings, packages, reporter, suite=suite)
        for item in list_components(settings, recipe, lock).values():
            if item.locked is not None:
                have_component(settings, store, item)
                check_bytes(item.path, item.sha256, what=f"component {item.name} {item.version}")
        for package in lock.all_packages():
            path = cached_path(settings, package.sha256, package.file)
            check_bytes(path, package.sha256, what=f"package {package.name} {package.version}")
    return lock


class _Update:
    """One update under way."""

    def __init__(self, settings: Settings, store: Store, recipe: Recipe, request: Request, reporter: Reporter) -> None:
        self.settings, self.store, self.recipe = settings, store, recipe
        self.request, self.reporter = request, reporter
        self.path = lock_path(settings, recipe)
        self.written = written_lock_path(settings, recipe)
        self.old = read_lock(self.path)
        if self.old and self.old.suite != recipe.base.suite:  # no package of one suite holds in another
            self.request = replace(request, everything=True)
        self.wants = read_wants(settings, recipe)
        self.stale = set(stale_parts(self.old, self.wants)) if self.old else set(self.wants)
        self.unbuilt: list[str] = []
        self._archives: dict[str, Archive] = {}

    def run(self) -> Outcome:
        self._check_names()
        lock = Lock(recipe=self.recipe.name, suite=self.recipe.base.suite, wants=self.wants)
        with self.reporter.step(f"lock packages of {self.recipe.name}"):
            lock = self._lock_packages(lock)
        for suite, packages in () if self.request.dry_run else lock.by_suite().items():
            have_packages(self.settings, packages, self.reporter, suite=suite, archive=self._archives.get(suite))
        lock = lock.model_copy(
            update={"components": self._lock_components(lock), "collections": read_collections(self.settings)}
        )
        changes = compare_locks(self.old, lock)
        check_alarms(changes, {*self.request.accepted, *self._local_standins()})
        if not self.request.dry_run and lock != self.old:
            write_lock(lock, self.written)
        return Outcome(lock, changes, tuple(self.unbuilt))

    def _check_names(self) -> None:
        known = {
            *self.recipe.components,
            *self.recipe.pins,
            *(package.name for package in (self.old.all_packages() if self.old else ())),
        }
        unknown = [name for name in self.request.names if name not in known]
        if unknown:
            raise NotFound(
                f"{', '.join(unknown)}: neither a component nor a locked package of {self.recipe.name}",
                resolution=f"components: {', '.join(self.recipe.components) or 'none'}; packages stand in {self.path}",
            )

    def _lock_packages(self, lock: Lock) -> Lock:
        old = self.old
        layers = tuple(layer.role for layer in self.recipe.layers if layer.packages)
        named = self._names_package()
        asks = any(part.split(" ")[0] in ("base", "layer", "pins") for part in self.stale)
        if old and not (self.request.everything or named or asks):
            base, parts = old.base, {role: old.layers[role] for role in layers}
        else:
            archive = self._open_archive(lock.suite)
            self._pin(archive, (*old.base, *(item for part in old.layers.values() for item in part)) if old else ())
            base = archive.resolve_base(self.recipe)
            parts = archive.resolve_layers(self.recipe, base)
        builders = {name: self._lock_builder(name, component) for name, component in self._builds().items()}
        return lock.model_copy(
            update={"base": base, "layers": parts, "builders": builders, "tools": self._lock_tools()}
        )

    def _lock_tools(self) -> tuple[LockedPackage, ...]:
        if self.old and not (self.request.everything or self._names_package() or "tools" in self.stale):
            return self.old.tools
        archive = self._open_archive(SUITE)
        self._pin(archive, self.old.tools if self.old else ())
        return archive.resolve_tools()

    def _names_package(self) -> bool:
        return any(name not in self.recipe.components for name in self.request.names)

    def _builds(self) -> dict[str, SourceComponent]:
        found = self.recipe.components.items()
        return {name: item for name, item in found if isinstance(item, SourceComponent) and item.build is not None}

    def _lock_builder(self, name: str, component: SourceComponent) -> tuple[LockedPackage, ...]:
        old = self.old.builders.get(name) if self.old else None
        if old and not self._is_asked(name):
            return old
        archive = self._open_archive(self.recipe.base.suite)
        self._pin(archive, old or ())
        wanted = component.build.packages if component.build else ()
        return archive.resolve((*archive.minimal(), *wanted))

    def _is_asked(self, name: str) -> bool:
        """Return whether component `name` is looked up: it is new, the recipe changed it, or a person asked for it."""
        return f"component {name}" in self.stale or self.request.everything or name in self.request.names

    def _open_archive(self, suite: str) -> Archive:
        if suite not in self._archives:
            require_root("reading a suite's package index")
            held = self.old.by_suite().get(suite, ()) if self.old else ()
            if self.request.everything:  # a pinned version holds when the index has dropped it, too
                held = tuple(item for item in held if item.name in self.recipe.pins)
            work = lock_work(self.settings) / f"archive-{suite}"
            self._archives[suite] = open_archive(self.settings, suite, work, keep=held, free=self.request.names)
        return self._archives[suite]

    def _pin(self, archive: Archive, held: tuple[LockedPackage, ...]) -> None:
        """Hold packages at their locked versions, but for those that a person asked for."""
        archive.pins.clear()
        if not self.request.everything:
            archive.pins.update({item.name: item.version for item in held if item.name not in self.request.names})
        packages = {name: version for name, version in self.request.names.items() if name not in self.recipe.components}
        if archive.suite != self.recipe.base.suite:
            packages = {item.name: packages[item.name] for item in held if item.name in packages}
        for name, version in packages.items():
            if version:
                archive.check_version(name, version)
                archive.pins[name] = version
        if archive.suite == self.recipe.base.suite:
            archive.pins.update({name: archive.find_version(name, text) for name, text in self.recipe.pins.items()})

    def _lock_components(self, lock: Lock) -> dict[str, LockedComponent]:
        locked: dict[str, LockedComponent] = {}
        for name, component in self.recipe.components.items():
            if not is_locked(component):
                continue
            old = self.old.components.get(name) if self.old else None
            if old and not self._is_asked(name):
                locked[name] = old
                continue
            match component:
                case SourceComponent():
                    built = self._lock_build(name, component, lock, old)
                    if built:
                        locked[name] = built
                case AptComponent():
                    locked[name] = lock_apt(self.settings, name, component)
                case UrlComponent():
                    locked[name] = lock_url(self.settings, name, component)
                case GithubComponent():
                    locked[name] = lock_github(self.settings, name, component)
        return locked

    def _lock_build(
        self, name: str, component: SourceComponent, lock: Lock, old: LockedComponent | None
    ) -> LockedComponent | None:
        packages = lock.builders[name]
        commit = self._commit(name, component, old)
        job = BuildJob(self.recipe, name, component, packages, commit, lock.tools)
        if (
            isinstance(old, LockedBuild)
            and old.key == build_key(self.settings, job)
            and name not in self.request.accepted
        ):
            return old  # built once: the same inputs never give it other bytes
        if self.request.dry_run:
            self.unbuilt.append(name)
            return old
        with self.reporter.step(f"build component {name}"):
            return build_component(self.settings, self.store, job, lock_work(self.settings) / f"build-{name}")

    def _commit(self, name: str, component: SourceComponent, old: LockedComponent | None) -> str | None:
        git = component.git
        if git is None:
            return None
        tag = component.expand(git.tag)
        held = (
            old.commit
            if isinstance(old, LockedBuild) and old.tag == tag and name not in self.request.accepted
            else None
        )
        return resolve_tag(name, git.url, tag, git.commit or held)

    def _local_standins(self) -> set[str]:
        """Return the stand-ins of this machine's own repository: who changes one, and locks, means it."""
        return {
            name
            for name, item in self.recipe.components.items()
            if item.standin and isinstance(item, AptComponent) and item.repository.startswith("file:")
        }


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the lock's own lock; work that a killed run left is removed first, and this run's at its end."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with (settings.state_dir / "lock.lock").open("w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another `qtrade lock` uses {settings.state_dir}", resolution="wait for it, or set QTRADE_STATE_DIR"
            ) from error
        work = lock_work(settings)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            yield
        finally:
            shutil.rmtree(work, ignore_errors=True)
