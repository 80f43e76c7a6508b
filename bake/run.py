"""Bake: carry out the plan and publish the image."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from bake import image as images
from bake.attest import attest_bake
from bake.base import find_base
from bake.check_image import count_image_specs
from bake.components import Fetched, list_components
from bake.inputs import read_inputs
from bake.lock.check import require_lock
from bake.lock.document import Lock
from bake.make import Maker, last_fields
from bake.pair import check_built_pair, check_pair
from bake.plan import (
    INITRD,
    INSTALLER,
    Choice,
    Inputs,
    Step,
    base_key,
    choose_all,
    choose_layers,
    digest_of,
    find_different,
    plan_bake,
)
from bake.resolved import resolved_dependencies
from bake.seal.overlap import check_overlaps
from bake.target_python import check_target_python
from bake.tools import ensure_tools
from bake.unsealed import Unsealed
from qtrade.errors import ConflictError, UsageError, choose_from
from qtrade.manifest import Image, Recipe, lend_arguments, load_recipe_named
from qtrade.manifest.base import Version
from qtrade.manifest.recipe import BASE
from qtrade.reporter import ConsoleReporter, Reporter
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store, open_store
from qtrade.toolsroot import ToolsRoot
from qtrade.trust.keyring import Keyring, ensure_keyring

if TYPE_CHECKING:
    from bake.cve.scan import Scan


@dataclass(frozen=True)
class BakeResult:
    """What a bake did: the image and the names of the steps that were not hits."""

    image: Image
    built: tuple[str, ...]


def load_recipe(settings: Settings, name: str) -> Recipe:
    """Return the recipe `name`.

    Raises `NotFound`, `BadInput` (also where Ansible does not support the Python of its suite), and `Refused` when its validator and
    Geyser plugin do not fit.
    """
    recipe = load_recipe_named(settings, name)
    for layer in recipe.layers:
        role = settings.ansible / "roles" / layer.role
        if not role.is_dir():
            raise UsageError(
                f"recipe {name}: layer {layer.role} has no role",
                details=f"looked for {role}",
                resolution=choose_from(layer.role, sorted(path.name for path in role.parent.glob("[a-z]*"))),
            )
    check_target_python(recipe)
    check_pair(recipe)
    return lend_arguments(settings.ansible, recipe)


def plan(settings: Settings, recipe: Recipe, choice: Choice | None = None) -> tuple[Step, ...]:
    """Return what a bake of the choice, or of a whole image, would do, without doing it.

    With `lock: auto` the lock is made: its digests are part of the keys.
    """
    store = open_store(settings)
    inputs, _, _ = gather(settings, store, recipe, ConsoleReporter(quiet=True))
    key = base_key(recipe, inputs)
    unsealed = Unsealed(settings, store)
    whole = find_base(unsealed, key) is not None

    def find(wanted: str) -> BlobRecord | None:
        return unsealed.find_record(wanted) if wanted != key or whole else None

    return plan_bake(recipe, inputs, find, last_fields(settings, recipe), choice)


def bake(  # noqa: PLR0913 - the options of the command
    settings: Settings,
    recipe: Recipe,
    version: str,
    reporter: Reporter,
    *,
    from_scratch: bool = False,
    verify: bool = False,
    cve_gate: bool = False,
) -> BakeResult:
    """Bake `version` of the recipe and publish it.

    With `verify`, only if a second bake elsewhere gives the same bytes; with `cve_gate`, only if no known vulnerability stops it.
    Raises the errors of its steps; a failed bake publishes nothing. What can be known beforehand is asked beforehand: a version that is
    taken (`ConflictError`), a key or a snapshot that is missing.
    """
    started = int(time.time())
    _check_version(version)
    store = open_store(settings)
    inputs, components, lock = gather(settings, store, recipe, reporter)
    _check_free(store, recipe, version, inputs)
    _check_pair(settings, store, recipe, lock, reporter)
    choice = choose_all(recipe, from_scratch=from_scratch)
    with _alone(settings):
        keyring = ensure_keyring(settings)
        signer = keyring.signer("build")
        if cve_gate:
            _check_snapshot(settings, recipe, keyring)
        maker = Maker(settings, store, recipe, inputs, components, lock, reporter, forced=choice.forced)
        maker.prepare = partial(_take_inventory, settings, maker.unsealed)
        made, ran = _make_image(maker, version, choice.wanted)
        if verify:
            _verify(settings, store, recipe, made, reporter)
        scan = _scan(settings, store, made, keyring) if cve_gate else None
        store.publish(made, images.sign(made, signer))
        took, tools = (
            partial(resolved_dependencies, settings, recipe, lock),
            partial(ensure_tools, settings, lock.tools),
        )
        attest_bake(
            settings,
            store,
            keyring,
            made,
            resolved=took,
            tools=tools,
            started=started,
            ran=ran,
            scan=scan,
            verified=verify,
        )
    return BakeResult(made, tuple(maker.built))


def _make_image(maker: Maker, version: str, wanted: frozenset[str]) -> tuple[Image, int]:
    """Return the image and how many specs held on its layers."""
    settings, store, recipe, done = maker.settings, maker.store, maker.recipe, maker.done
    base = maker.make(wanted)
    maker.unsealed.clear()
    layers = tuple(done[name] for name in (BASE, *(layer.role for layer in recipe.layers)))
    _check_overlaps(store, recipe, layers)
    ran = maker.specs_run + count_image_specs(recipe, maker.checked_together, maker.reporter)
    made = images.assemble(
        settings,
        recipe,
        version,
        layers=layers,
        kernel=base.kernel,
        initrd=done[INITRD],
        installer=done[INSTALLER],
        components=maker.components,
    )
    return made, ran


def _take_inventory(settings: Settings, blobs: Unsealed, layer: BlobRecord, tools: Callable[[], ToolsRoot]) -> None:
    from bake.inventory.make import layer_inventory  # noqa: PLC0415 - a bake that makes nothing takes none

    layer_inventory(settings, blobs, layer.digest, tools)


def bake_layers(
    settings: Settings, recipe: Recipe, role: str, reporter: Reporter, *, only: bool, from_scratch: bool = False
) -> tuple[str, ...]:
    """Make what `choose_layers` says and publish nothing. Returns what was built."""
    choice = choose_layers(recipe, role, only=only, from_scratch=from_scratch)
    store = open_store(settings)
    inputs, components, lock = gather(settings, store, recipe, reporter)
    check_built_pair(settings, store, recipe, lock)
    with _alone(settings):
        maker = Maker(settings, store, recipe, inputs, components, lock, reporter, forced=choice.forced)
        maker.make(choice.wanted)
        maker.unsealed.clear()
    return tuple(maker.built)


def _verify(settings: Settings, store: Store, recipe: Recipe, image: Image, reporter: Reporter) -> None:
    from bake import verify  # noqa: PLC0415 - the same

    verify.verify(settings, store, recipe, image, reporter)


def _scan(settings: Settings, store: Store, image: Image, keyring: Keyring) -> "Scan":
    from bake.cve.scan import check_image  # noqa: PLC0415 - most bakes have no gate

    return check_image(settings, store, image, datetime.now(UTC), trusted=keyring.trust.promoters())


def _check_pair(settings: Settings, store: Store, recipe: Recipe, lock: Lock, reporter: Reporter) -> None:
    pair = check_built_pair(settings, store, recipe, lock)
    if pair and not pair.is_exact:
        reporter.say(f"{pair}: not the very same release, so the load test decides")


def _check_snapshot(settings: Settings, recipe: Recipe, keyring: Keyring) -> None:
    from bake.cve.scan import check_snapshot  # noqa: PLC0415 - most bakes have no gate

    check_snapshot(settings, recipe.name, datetime.now(UTC), trusted=keyring.trust.promoters())


def _check_free(store: Store, recipe: Recipe, version: str, inputs: Inputs) -> None:
    """Refuse a version that was made of something else; the same again may mend its blobs. `publish` has the last word."""
    if not store.has_version(recipe.name, version):
        return
    try:
        image = Image.model_validate_json(store.read(recipe.name, version).image_text)
    except ValidationError:  # of another format, whose id `publish` compares
        return
    different = find_different(recipe, inputs, image)
    if different:
        raise ConflictError(
            f"version {version} of {recipe.name} exists, made of something else",
            details=f"in the store: {image.id}\nchanged since: {', '.join(different)}",
            resolution="choose another version: a version is written once",
        )


def _check_overlaps(store: Store, recipe: Recipe, layers: tuple[BlobRecord, ...]) -> None:
    """Check once for each set of layers; thousands of paths take their time."""
    kin = {layer.role: layer.needs for layer in recipe.layers}
    key = digest_of(["overlaps", kin, [(layer.name, layer.digest) for layer in layers]])
    if store.find_record(key) is None:
        check_overlaps(recipe, {layer.name: store.paths(layer) for layer in layers})
        store.add_record(BlobRecord(key, "overlaps"))


def _check_version(version: str) -> None:
    try:
        TypeAdapter(Version).validate_python(version)
    except ValidationError as error:
        raise UsageError(
            f"{version!r:.80} is no version", resolution="write it as 0.1.0: letters, digits and . + ~ : _ - only"
        ) from error


def gather(
    settings: Settings, store: Store, recipe: Recipe, reporter: Reporter
) -> tuple[Inputs, dict[str, Fetched], Lock]:
    """Return what the keys are made of, the components and the lock that both come from."""
    lock = require_lock(settings, store, recipe, reporter)
    components = list_components(settings, recipe, lock)
    roles = tuple(layer.role for layer in recipe.layers)
    digests = {name: item.identity for name, item in components.items()}
    return read_inputs(settings, roles, digests, lock), components, lock


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the bake lock of the state directory; what a killed bake left in the work folder is removed first.

    Programs that make temporary files make them in the work folder meanwhile.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with (settings.state_dir / "bake.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another bake uses {settings.state_dir}", resolution="wait for it, or set QTRADE_STATE_DIR"
            ) from error
        shutil.rmtree(settings.work_dir, ignore_errors=True)
        temporary = settings.work_dir / "tmp"
        temporary.mkdir(parents=True)
        kept = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(temporary)
        try:
            yield
        finally:
            if kept is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = kept
            shutil.rmtree(temporary, ignore_errors=True)
