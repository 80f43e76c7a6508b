"""What `qtrade lock` does with its options, and what it says."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bake.lock.check import check_lock, lock_path
from bake.lock.difference import Change
from bake.lock.document import Lock
from bake.lock.edit import edit_version, mentions, parse_name
from bake.lock.pin import Pins, pin
from bake.lock.update import Request, fetch_locked, update_lock
from bake.pair import check_pair
from qtrade.errors import Refused, UsageError
from qtrade.manifest import Recipe, load_recipe_named
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store


@dataclass(frozen=True)
class Options:
    """The options of the command line. `names` are `NAME` or `NAME=VERSION`."""

    names: tuple[str, ...] = ()
    update: bool = False
    fetch: bool = False
    check: bool = False
    accepted: frozenset[str] = frozenset()
    dry_run: bool = False
    pins: Pins = field(default_factory=Pins)


@dataclass(frozen=True)
class Report:
    """What was done: `done` is one of `checked`, `fetched`, `locked`, `unchanged` and `would lock`."""

    done: str
    path: Path
    lock: Lock
    changes: tuple[Change, ...] = ()
    unbuilt: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "schema_version": 1,
            "done": self.done,
            "recipe": self.lock.recipe,
            "path": str(self.path),
            "packages": len(self.lock.all_packages()),
            "components": {name: item.model_dump(mode="json") for name, item in self.lock.components.items()},
            "changes": [asdict(change) for change in self.changes],
            "unbuilt": list(self.unbuilt),
        }

    def text(self) -> str:
        """Return the report for people: the difference, and a last line that says what was done."""
        lines = [str(change) for change in self.changes]
        lines += [f"? component: {name} would be built" for name in self.unbuilt]
        size = sum(package.size for package in self.lock.all_packages()) / 1e6
        counts = f"{len(self.lock.all_packages())} packages ({size:.0f} MB), {len(self.lock.components)} components"
        return "\n".join([*lines, f"{self.done} {self.lock.recipe}: {counts}, {self.path}"])


def run(settings: Settings, name: str, options: Options, reporter: Reporter) -> Report:
    """Carry out `qtrade lock`. Raises `UsageError` for options that do not go together, and the errors of what it does."""
    _check(options)
    recipe = load_recipe_named(settings, name)
    path = settings.find(f"manifests/images/{name}.yaml")
    store = open_store(settings)
    if options.check:
        return Report("checked", lock_path(settings, recipe), check_lock(settings, recipe))
    if options.fetch:
        return Report("fetched", lock_path(settings, recipe), fetch_locked(settings, store, recipe, reporter))
    names: dict[str, str | None] = dict(parse_name(text) for text in options.names)
    changes = bool(options.names) or not options.pins.is_empty
    if changes and not options.dry_run and not path.is_relative_to(settings.project):
        own = settings.project / "manifests/images" / path.name
        raise Refused(
            f"the recipe {name} came with qtrade, and stays as it came",
            details=f"  {path}",
            resolution=f"copy it to {own}, which then takes its place, and try again",
        )
    before = path.read_text()
    recipe = _edit(path, recipe, names, options, reporter)
    try:
        if not options.pins.is_empty:
            recipe, again = pin(settings, path, recipe, options.pins, dry_run=options.dry_run)
            check_pair(recipe)
            names |= dict.fromkeys(again)
        everything = options.update and not options.names
        request = Request(everything, names, options.accepted, options.dry_run)
        outcome = update_lock(settings, store, recipe, request, reporter)
    except BaseException:
        if path.read_text() != before:  # a version that cannot be locked does not stay in the recipe
            path.write_text(before)
        raise
    is_new = outcome.changes or outcome.unbuilt
    done = "unchanged" if not is_new else "would lock" if options.dry_run else "locked"
    return Report(done, lock_path(settings, recipe), outcome.lock, outcome.changes, outcome.unbuilt)


def _check(options: Options) -> None:
    if options.names and not options.update:
        raise UsageError(
            f"{options.names[0]}: names go with --update", resolution="qtrade lock --update NAME[=VERSION]"
        )
    chosen = [name for name in ("update", "fetch", "check") if getattr(options, name)]
    if not options.pins.is_empty and set(chosen) & {"fetch", "check"}:
        raise UsageError(f"--pin and --set change the recipe, --{chosen[-1]} does not", resolution="give one of them")
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} do not go together", resolution="give one of them")


def _edit(path: Path, recipe: Recipe, names: dict[str, str | None], options: Options, reporter: Reporter) -> Recipe:
    """Write the versions of components into the recipe: it, not the lock, says which version is wanted."""
    for name, version in names.items():
        if version and name in recipe.components:
            old = recipe.components[name].version
            recipe = edit_version(path, name, version, dry_run=options.dry_run)
            for place in mentions(recipe, old):
                reporter.say(f"{place} in {path.name} still says {old}: change it too if it means {name}")
    return recipe
