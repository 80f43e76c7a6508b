"""Bake: carry out the plan, layer by layer, independent ones side by side."""

import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter

from pydantic import TypeAdapter, ValidationError

from bake import image as images
from bake import packer, seal, specs
from bake.base import Base, find_base, make_base
from bake.components import Fetched, fetch_components
from bake.initramfs import make_initramfs
from bake.inputs import read_inputs
from bake.layer import LayerJob, make_layer
from bake.plan import (
    INITRD,
    INSTALLER,
    Inputs,
    Step,
    base_key,
    digest_of,
    initramfs_key,
    layer_fields,
    layer_key,
    plan_bake,
)
from qtrade.errors import ConflictError, UsageError
from qtrade.manifest import Image, Recipe, load_manifest
from qtrade.manifest.base import Version
from qtrade.manifest.recipe import BASE
from qtrade.process import require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.signing import ensure_key
from qtrade.store import BlobRecord, LocalStore, Store
from qtrade.toolsroot import ToolsRoot, ensure_tools

_SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class BakeResult:
    """What a bake did: the image and the names of the steps that were not hits."""

    image: Image
    built: tuple[str, ...]


def load_recipe(settings: Settings, name: str) -> Recipe:
    """Return the recipe `name`. Raises `NotFound`, `BadInput`."""
    recipe = load_manifest(Recipe, settings.project / "manifests/images" / f"{name}.yaml")
    for layer in recipe.layers:
        role = settings.project / "ansible/roles" / layer.role
        if not role.is_dir():
            raise UsageError(f"recipe {name}: layer {layer.role} has no role", details=f"looked for {role}")
    return recipe


def plan(settings: Settings, recipe: Recipe) -> tuple[Step, ...]:
    """Return what a bake would do, without doing it. Components are fetched: their digests are part of the keys."""
    store = LocalStore(settings.store)
    inputs, _ = _gather(settings, recipe)
    key = base_key(recipe, inputs)
    whole = find_base(settings, store, key) is not None
    return plan_bake(recipe, inputs, lambda wanted: store.find_record(wanted) if wanted != key or whole else None)


def bake(
    settings: Settings, recipe: Recipe, version: str, reporter: Reporter, *, from_scratch: bool = False
) -> BakeResult:
    """Bake `version` of the recipe and publish it. Raises the errors of its steps; a failed bake publishes nothing."""
    _check_version(version)
    inputs, components = _gather(settings, recipe)
    store = LocalStore(settings.store)
    with _alone(settings):
        work = _Bake(settings, store, recipe, inputs, components, reporter, from_scratch=from_scratch)
        base = work.base()
        initrd, installer, layers = work.rest(base)
        records = {record.name: record for record in layers}
        seal.check_layers(recipe, records)
        made = images.assemble(
            settings,
            recipe,
            version,
            layers=layers,
            kernel=base.kernel,
            initrd=initrd,
            installer=installer,
            components=components,
        )
        specs.check_layers(settings, store, recipe, made, reporter)
        store.publish(made, images.sign(made, ensure_key(settings.keys_dir, "build")))
    return BakeResult(made, tuple(work.built))


class _Bake:
    """One bake under way."""

    def __init__(  # noqa: PLR0913 - the parts of a bake
        self,
        settings: Settings,
        store: Store,
        recipe: Recipe,
        inputs: Inputs,
        components: dict[str, Fetched],
        reporter: Reporter,
        *,
        from_scratch: bool,
    ) -> None:
        self.settings, self.store, self.recipe, self.inputs = settings, store, recipe, inputs
        self.components, self.reporter, self.from_scratch = components, reporter, from_scratch
        self.built: list[str] = []
        self._tools: ToolsRoot | None = None

    def tools(self) -> ToolsRoot:
        """Return the tools root; only a bake that builds something needs it."""
        if self._tools is None:
            with self.reporter.step("tools root and packer"):
                self._tools = ensure_tools(self.settings)
                packer.locate(self.settings)
        return self._tools

    def base(self) -> Base:
        key = base_key(self.recipe, self.inputs)
        found = None if self.from_scratch else find_base(self.settings, self.store, key)
        if found:
            return found
        require_root("a bake that builds layers")
        tools = self.tools()
        self.built.append(BASE)
        with self.reporter.step("layer base"):
            return make_base(self.settings, tools, self.store, self.recipe, key)

    def rest(self, base: Base) -> tuple[BlobRecord, BlobRecord, tuple[BlobRecord, ...]]:
        """Return initrd, installer and all layers, each made once what it needs is there."""
        keys: dict[str, str] = {}
        for layer in self.recipe.layers:
            fields = layer_fields(self.recipe, layer.role, self.inputs, base.layer, keys)
            keys[layer.role] = layer_key(fields)
        for name in (INITRD, INSTALLER):
            keys[name] = initramfs_key(name, self.inputs, base.layer)
        done: dict[str, BlobRecord] = {BASE: base.layer}
        if not self.from_scratch:
            done.update({name: record for name, key in keys.items() if (record := self.store.find_record(key))})
        missing = [name for name in keys if name not in done]
        if missing:
            require_root("a bake that builds layers")
            self.tools()
            self._make_all(missing, keys, base, done)
        layers = tuple(done[name] for name in (BASE, *(layer.role for layer in self.recipe.layers)))
        return done[INITRD], done[INSTALLER], layers

    def _make_all(self, missing: list[str], keys: dict[str, str], base: Base, done: dict[str, BlobRecord]) -> None:
        needs = {layer.role: set(layer.needs) for layer in self.recipe.layers}
        order: TopologicalSorter[str] = TopologicalSorter(
            {name: needs.get(name, set()) & set(missing) for name in missing}
        )
        order.prepare()
        running: dict[Future[BlobRecord], str] = {}
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            while order.is_active():
                for name in order.get_ready():
                    running[pool.submit(self._make, name, keys[name], base, done)] = name
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    name = running.pop(future)
                    try:
                        done[name] = future.result()
                    except BaseException:
                        pool.shutdown(wait=True, cancel_futures=True)
                        raise
                    self.built.append(name)
                    order.done(name)

    def _make(self, name: str, key: str, base: Base, done: dict[str, BlobRecord]) -> BlobRecord:
        base_blob = self.store.open_blob(base.layer.digest)
        if name in (INITRD, INSTALLER):
            with self.reporter.step(name):
                return make_initramfs(
                    self.settings,
                    self.tools(),
                    self.store,
                    name=name,
                    key=key,
                    base=base_blob,
                    release=base.kernel.facts["release"],
                    epoch=self.recipe.epoch,
                )
        layer = next(layer for layer in self.recipe.layers if layer.role == name)
        below = tuple(self.store.open_blob(done[need].digest) for need in self.recipe.ancestors(name))
        job = LayerJob(self.recipe, layer, key, base.layer.key, below, self.components)
        with self.reporter.step(f"layer {name}"):
            record = make_layer(self.settings, self.tools(), self.store, job)
        keys = {need: done[need].key for need in self.recipe.ancestors(name) if need != BASE}
        fields = layer_fields(self.recipe, name, self.inputs, base.layer, keys)
        self.store.add_record(BlobRecord(digest_of(["last", self.recipe.name, name]), name, facts=fields))
        return record


def _check_version(version: str) -> None:
    try:
        TypeAdapter(Version).validate_python(version)
    except ValidationError as error:
        raise UsageError(
            f"{version!r:.80} is no version", resolution="write it as 0.1.0: letters, digits and . + ~ : _ - only"
        ) from error


def _gather(settings: Settings, recipe: Recipe) -> tuple[Inputs, dict[str, Fetched]]:
    components = fetch_components(settings, recipe)
    roles = tuple(layer.role for layer in recipe.layers)
    return read_inputs(settings, roles, {name: item.sha256 for name, item in components.items()}), components


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the bake lock of the state directory; what a killed bake left in the work folder is removed first."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with (settings.state_dir / "bake.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another bake uses {settings.state_dir}", resolution="wait for it, or set QTRADE_STATE_DIR"
            ) from error
        shutil.rmtree(settings.work_dir, ignore_errors=True)
        settings.work_dir.mkdir(parents=True)
        yield
