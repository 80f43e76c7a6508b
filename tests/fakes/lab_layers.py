"""The layers of the lab recipe as they are in the store, made first where they are not; and their roles run once more on them."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bake import layer as layers
from bake import run
from bake.chamber import Chamber, Command, run_in_chamber
from bake.check_image import ImageCheck, run_image_check
from bake.components import Fetched
from bake.components.take import take_components
from bake.layer import LayerJob
from bake.lock.document import Lock
from bake.make import Maker
from bake.plan import INITRD, INSTALLER, base_key, key_of, kind_of, step_fields
from bake.run import bake_layers, gather, load_recipe
from bake.unsealed import Unsealed
from qtrade.manifest import Recipe, lend_arguments, load_manifest
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store, open_store
from tests.fakes.reporter import RecordingReporter

_RECAP = re.compile(r"(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s")
_CHANGED = re.compile(r"^changed: \[\S+\]", re.MULTILINE)
_TASK = re.compile(r"^TASK \[(.+)\]", re.MULTILINE)


@dataclass(frozen=True)
class BakedRecipe:
    """A recipe, and the records of its layers in the store, lowest first."""

    settings: Settings
    recipe: Recipe
    store: Store
    components: Mapping[str, Fetched]
    lock: Lock
    records: Mapping[str, BlobRecord]

    def blobs(self, role: str) -> tuple[Path, ...]:
        """Return the blobs of what a layer stands on and of itself, lowest first."""
        names = (*self.recipe.ancestors(role), role)
        return tuple(self.store.open_blob(self.records[name].digest) for name in names)


@dataclass(frozen=True)
class SecondRun:
    """What a role did to its own finished layer: its tasks, those that changed something, and paths that were written."""

    ok: int
    changed: tuple[str, ...]
    written: tuple[str, ...]


def bake_recipe(settings: Settings, name: str, *, until: str | None = None) -> BakedRecipe:
    """Have the layers of a recipe in the store: all, or those that the role `until` stands on and its own."""
    return bake_all(settings, load_recipe(settings, name), until=until)


def change_vars(settings: Settings, name: str, changes: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Return a recipe as if its file gave the layers these variables too, by role."""
    recipe = load_manifest(Recipe, settings.project / f"manifests/images/{name}.yaml")
    layers = [
        layer.model_copy(update={"vars": {**layer.vars, **changes.get(layer.role, {})}}) for layer in recipe.layers
    ]
    return lend_arguments(settings.ansible, recipe.model_copy(update={"layers": tuple(layers)}))


def bake_all(settings: Settings, recipe: Recipe, *, until: str | None = None) -> BakedRecipe:
    """Have the layers of the recipe in the store; test processes take turns."""
    store, reporter = open_store(settings), RecordingReporter()
    wanted = (*recipe.ancestors(until), until) if until else tuple(layer.role for layer in recipe.layers)
    with have_turn(settings):
        bake_layers(settings, recipe, wanted[-1], reporter, only=until is not None)
        inputs, components, lock = gather(settings, store, recipe, reporter)
    base = store.find_record(base_key(recipe, inputs))
    assert base is not None
    fields = step_fields(recipe, inputs, base)
    records = {BASE: base}
    for role in wanted:
        if role != BASE:
            record = store.find_record(key_of(kind_of(role), fields[role]))
            assert record is not None, f"{role} was not made"
            records[role] = record
    return BakedRecipe(settings, recipe, store, components, lock, records)


def make_base(settings: Settings) -> None:
    """Have base, kernel and initial RAM filesystems of the lab's recipe in the store."""
    recipe, store, reporter = load_recipe(settings, "lab"), open_store(settings), RecordingReporter()
    with have_turn(settings), run._alone(settings):
        maker = Maker(settings, store, recipe, *gather(settings, store, recipe, reporter), reporter)
        maker.make(frozenset((INITRD, INSTALLER)))
        maker.unsealed.clear()


def check_together(baked: BakedRecipe, check: ImageCheck, records: Mapping[str, BlobRecord]) -> int:
    """Run the image specs of a role, as a bake does; return how many ran. Raises `Refused`."""
    unsealed = Unsealed(baked.settings, baked.store)
    with have_turn(baked.settings):
        return int(run_image_check(baked.settings, unsealed, check, records, RecordingReporter()).facts["ran"])


@contextmanager
def have_turn(settings: Settings) -> Iterator[None]:
    """Have the folder for temporary files alone: each bake empties it at its start."""
    with (settings.state_dir / "tests-bake.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def run_again(baked: BakedRecipe, role: str, folder: Path) -> SecondRun:
    """Run the playbook of `role` as a bake does, through Packer and Ansible's chroot, on the layer that it has made."""
    blobs, layer = baked.blobs(role), baked.recipe.layer(role)
    job = LayerJob(baked.recipe, layer, role, blobs, baked.components, baked.lock.layers.get(role, ()))
    work = folder / role
    work.mkdir()
    taken = take_components(baked.settings, baked.store, baked.components, layer.components, work / "components")
    build = layers._packer_build(baked.settings, work, job, taken)
    build.prepare()
    commands = (*layers.index_commands(work, layer), Command(build.argv()))
    chamber = Chamber(work, blobs, commands, layers.layer_binds(baked.settings, work, job, taken))
    said = run_in_chamber(chamber, env=_environment(baked, work, job), timeout_s=600).stdout
    build.check_result()
    written = tuple(sorted(_written(chamber.upper)))
    shutil.rmtree(work)
    return read_recap(said, written)


def read_recap(said: str, written: tuple[str, ...] = ()) -> SecondRun:
    """Read the end of Ansible's output, which Packer puts its own words before."""
    text = "\n".join(line.split("null.layer: ", 1)[-1].strip() for line in said.splitlines())
    recap = _RECAP.search(text)
    assert recap is not None, text[-2000:]
    starts = [(match.start(), match[1]) for match in _TASK.finditer(text)]
    changed = tuple([name for start, name in starts if start < match.start()][-1] for match in _CHANGED.finditer(text))
    assert len(changed) == int(recap[3]), text[-2000:]
    return SecondRun(int(recap[2]), changed, written)


def _environment(baked: BakedRecipe, work: Path, job: LayerJob) -> dict[str, str]:
    return {
        **layers.packer.environment(work),
        "ANSIBLE_CONFIG": str(baked.settings.project / "ansible/ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(work / "ansible"),
        "SOURCE_DATE_EPOCH": str(job.recipe.epoch),
        "DEBIAN_FRONTEND": "noninteractive",
        "PYTHONDONTWRITEBYTECODE": "1",
        "APT_CONFIG": f"{layers._APT}/apt.conf" if job.layer.packages else "/dev/null",
    }


def _written(upper: Path) -> set[str]:
    """Return the files, links and whiteouts in `upper` that a layer would hold."""
    found = set()
    for folder, _, names in os.walk(upper):
        inside = Path(folder).relative_to(upper)
        found |= {str(inside / name) for name in names if inside.parts[:1] != ("var",)}
    return found


def dump(run: SecondRun) -> str:
    """Return what a failing test shows."""
    return json.dumps({"changed": run.changed, "written": run.written}, indent=1)
