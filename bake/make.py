"""Make what a plan asks for: base, layers and initial RAM filesystems, each checked, independent ones side by side."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path

from bake import packer
from bake.base import Base, find_base, make_base
from bake.check import check_key, check_layer
from bake.check_image import ImageCheck, image_check_key, list_image_checks, run_image_check
from bake.check_initramfs import check_initramfs, initramfs_check_key
from bake.components import Fetched
from bake.initramfs import make_initramfs
from bake.layer import LayerJob, make_layer
from bake.lock.document import Lock
from bake.plan import INITRD, INSTALLER, LAYER, Fields, Inputs, base_fields, base_key, key_of, kind_of, step_fields
from bake.tools import ensure_tools
from bake.unsealed import Unsealed
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.process import end_running, require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store
from qtrade.toolsroot import ToolsRoot

Take = Callable[[BlobRecord], None]
_SIDE_BY_SIDE = max(2, min(4, os.cpu_count() or 2))


class _Rank(IntEnum):
    """What begins first where more could run than may: that on which the most has to wait."""

    LAYER = 0
    INITRAMFS = 1
    CHECK = 2
    REST = 3


@dataclass(frozen=True)
class _Task:
    """A piece of work, and what is done with its result. `above` counts the layers of the longest chain that waits for it."""

    rank: _Rank
    run: Callable[[], BlobRecord]
    take: Take
    above: int = 0


@dataclass
class Maker:
    """One bake under way. `forced` names the steps that are made again although the store has them.

    `prepare` is called with each layer that was made and passed its check, and with what gives the tools root, while others are still made.
    """

    settings: Settings
    store: Store
    recipe: Recipe
    inputs: Inputs
    components: Mapping[str, Fetched]
    lock: Lock
    reporter: Reporter
    forced: frozenset[str] = frozenset()
    prepare: Callable[[BlobRecord, Callable[[], ToolsRoot]], object] | None = None
    built: list[str] = field(default_factory=list)
    done: dict[str, BlobRecord] = field(default_factory=dict)
    specs_run: int = 0
    checked_together: list[BlobRecord] = field(default_factory=list)
    unsealed: Unsealed = field(init=False)
    _waiting: list[_Task] = field(default_factory=list)
    _checked: set[str] = field(default_factory=set)
    _image_checks: list[ImageCheck] = field(default_factory=list)
    _tools_root: ToolsRoot | None = None

    def __post_init__(self) -> None:
        self.unsealed = Unsealed(self.settings, self.store)

    def make(self, wanted: frozenset[str]) -> Base:
        """Make or find the base and the `wanted` steps, which hold the needs of each; results are in `done`. Returns the base.

        Raises the errors of the steps. What was finished before a failure is in the store: the next bake goes on behind it.
        """
        base = self._base()
        self.done[BASE] = base.layer
        fields = {
            name: fields for name, fields in step_fields(self.recipe, self.inputs, base.layer).items() if name in wanted
        }
        keys = {name: key_of(kind_of(name), value) for name, value in fields.items()}
        for name, key in keys.items():
            record = None if name in self.forced else self.unsealed.find_record(key)
            if record:
                self.done[name] = record
        remember_fields(self.settings, self.recipe, {name: fields[name] for name in keys if name in self.done})
        missing = [name for name in keys if name not in self.done]
        if missing:
            require_root("a bake that builds layers")
            self._tools()
        self._image_checks = list(list_image_checks(self.settings, self.recipe))
        self._work(missing, keys, fields, base)
        return base

    def _base(self) -> Base:
        fields = base_fields(self.recipe, self.inputs)
        key = base_key(self.recipe, self.inputs)
        found = None if BASE in self.forced else find_base(self.unsealed, key)
        if found is None:
            require_root("a bake that builds layers")
            tools = self._tools()
            self.built.append(BASE)
            with self.reporter.step("layer base"):
                found = make_base(self.settings, tools, self.unsealed, self.recipe, self.lock, key)
        remember_fields(self.settings, self.recipe, {BASE: fields})
        return found

    def _work(self, missing: list[str], keys: Fields, fields: Mapping[str, Fields], base: Base) -> None:
        """Make the missing steps as soon as what they need is there, and check each layer that nobody checked yet."""
        needs = {layer.role: set(layer.needs) & set(missing) for layer in self.recipe.layers}
        order: TopologicalSorter[str] = TopologicalSorter({name: needs.get(name, set()) for name in missing})
        order.prepare()

        def take(name: str, record: BlobRecord) -> None:
            self.done[name] = record
            self.built.append(name)
            remember_fields(self.settings, self.recipe, {name: fields[name]})
            order.done(name)
            self._plan_checks()

        running: dict[Future[BlobRecord], Take] = {}
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            try:
                self._plan_checks()
                while order.is_active() or self._waiting or running:
                    for name in order.get_ready() if order.is_active() else ():
                        rank = _Rank.LAYER if kind_of(name) == LAYER else _Rank.INITRAMFS
                        run = partial(self._make_step, name, keys[name], base)
                        self._waiting.append(_Task(rank, run, partial(take, name), self._count_above(name)))
                    self._waiting.sort(key=lambda task: (task.rank, -task.above))
                    while self._waiting and len(running) < _SIDE_BY_SIDE:
                        task = self._waiting.pop(0)
                        running[pool.submit(task.run)] = task.take
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        running.pop(future)(self._result(pool, future))
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                end_running()
                raise

    def _count_above(self, name: str) -> int:
        """Return how many layers the longest chain has that stands on `name`."""
        return max(
            (1 + self._count_above(layer.role) for layer in self.recipe.layers if name in layer.needs), default=0
        )

    def _plan_checks(self) -> None:
        """Have each result, and layers together, checked once: as soon as all that is looked at is there.

        Also those that were not made now: a store may have lost the record of a lower one.
        """
        for name in self.done.keys() - self._checked:
            if self.done.keys() >= set(self.recipe.ancestors(name)):
                self._checked.add(name)
                self._plan_check(*self._check_of(name), partial(self._take_checked, name))
        for check in [check for check in self._image_checks if self.done.keys() >= check.looks_at]:
            self._image_checks.remove(check)
            key = image_check_key(self.settings, check, self.done)
            run = partial(run_image_check, self.settings, self.unsealed, check, dict(self.done), self.reporter)
            self._plan_check(key, run, self.checked_together.append)

    def _plan_check(self, key: str, run: Callable[[], BlobRecord], take: Take) -> None:
        passed = self.store.find_record(key)
        if passed:
            take(passed)
        else:
            require_root("a bake that checks layers")
            self._waiting.append(_Task(_Rank.CHECK, run, take))

    def _check_of(self, name: str) -> tuple[str, Callable[[], BlobRecord]]:
        """Return the key of the check of one result, and what runs it."""
        known = dict(self.done)
        if kind_of(name) in (INITRD, INSTALLER):
            key = initramfs_check_key(self.settings, name, known[name])
            return key, lambda: check_initramfs(
                self.settings, self._tools(), self.unsealed, name, known[name], reporter=self.reporter
            )
        key = check_key(self.settings, self.recipe, name, known)
        return key, lambda: check_layer(self.settings, self.unsealed, self.recipe, name, known, self.reporter)

    def _take_checked(self, name: str, passed: BlobRecord) -> None:
        layer = self.done[name]
        self.unsealed.release(layer)
        self.specs_run += int(passed.facts["ran"])
        if self.prepare is not None and name in self.built and kind_of(name) in (BASE, LAYER):
            self._waiting.append(_Task(_Rank.REST, partial(self._prepare, layer), lambda _: None))

    def _prepare(self, layer: BlobRecord) -> BlobRecord:
        assert self.prepare is not None  # noqa: S101 - asked before it was planned
        self.prepare(layer, self._tools)
        return layer

    def _result(self, pool: ThreadPoolExecutor, future: Future[BlobRecord]) -> BlobRecord:
        try:
            return future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

    def _make_step(self, name: str, key: str, base: Base) -> BlobRecord:
        if name in (INITRD, INSTALLER):
            with self.reporter.step(name):
                return make_initramfs(
                    self.settings,
                    self._tools(),
                    self.unsealed,
                    name=name,
                    key=key,
                    base=self.unsealed.open_blob(base.layer.digest),
                    release=base.kernel.facts["release"],
                    epoch=self.recipe.epoch,
                )
        needs = [self.done[need].digest for need in self.recipe.ancestors(name)]
        below = tuple(self.unsealed.locate_blob(digest) for digest in needs)
        packages = self.lock.layers.get(name, ())
        # Hundreds of megabytes: they are compared while the role runs, and before anything is kept of what it made.
        with self.reporter.step(f"layer {name}"), ThreadPoolExecutor(1) as beside:
            compared = beside.submit(lambda: [self.unsealed.open_blob(digest) for digest in needs])
            layer = self.recipe.layer(name)
            job = LayerJob(self.recipe, layer, key, below, self.components, packages, compared.result)
            return make_layer(self.settings, self._tools(), self.unsealed, job)

    def _tools(self) -> ToolsRoot:
        """Return the tools root; only a bake that builds something needs it."""
        if self._tools_root is None:
            with self.reporter.step("tools root and packer"):
                self._tools_root = ensure_tools(self.settings, self.lock.tools)
                packer.locate(self.settings)
        return self._tools_root


def remember_fields(settings: Settings, recipe: Recipe, fields: Mapping[str, Fields]) -> None:
    """Remember what steps were made of, for the reasons that the next plan gives."""
    before = last_fields(settings, recipe)
    known = {**before, **fields}
    if known == before:
        return
    path = _last_path(settings, recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(known, sort_keys=True))
    fresh.replace(path)


def last_fields(settings: Settings, recipe: Recipe) -> dict[str, Fields]:
    """Return what each step was made of the last time; nothing where nothing readable is known."""
    try:
        known: dict[str, Fields] = json.loads(_last_path(settings, recipe).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known


def _last_path(settings: Settings, recipe: Recipe) -> Path:
    return settings.state_dir / "last-bake" / f"{recipe.name}.json"
