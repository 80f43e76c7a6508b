"""Look around in a layer: a shell in the root that its role works on."""

import shutil
import sys
from pathlib import Path

from bake.chamber import Chamber, Command, attach_to_chamber
from bake.components.take import take_components
from bake.layer import LayerJob, failed_folder, index_commands, layer_binds
from bake.plan import base_key, key_of, kind_of, step_fields
from bake.run import gather
from bake.unsealed import Unsealed
from qtrade import process
from qtrade.errors import NotFound, UsageError
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.process import require_root
from qtrade.reporter import ConsoleReporter
from qtrade.settings import Settings
from qtrade.store import Store


def open_shell(settings: Settings, store: Store, recipe: Recipe, role: str, *, network: bool = False) -> int:
    """Open a shell in the layer of `role` on this terminal and return its exit code; what is done in it is thrown away.

    The root is what the finished layer gives; where the role failed, what it had done until then; else what the role begins with.
    Raises `NotFound` when a layer below it was not made yet, `UsageError` without a terminal.
    """
    require_root("a shell in a layer")
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal")
    inputs, components, lock = gather(settings, store, recipe, ConsoleReporter())
    bottom = base_key(recipe, inputs)
    unsealed = Unsealed(settings, store)
    base = unsealed.find_record(bottom)
    if base is None:
        raise _missing(recipe, BASE, role)
    keys = {name: key_of(kind_of(name), fields) for name, fields in step_fields(recipe, inputs, base).items()}
    records = {name: unsealed.find_record(keys[name]) for name in (*recipe.ancestors(role), role) if name != BASE}
    blobs = [unsealed.open_blob(base.digest)]
    for name in recipe.ancestors(role):
        if name != BASE:
            record = records[name]
            if record is None:
                raise _missing(recipe, name, role)
            blobs.append(unsealed.open_blob(record.digest))
    own = records[role]
    if own:
        blobs.append(unsealed.open_blob(own.digest))
    work = settings.state_dir / "shell" / role
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    state = "as it was made" if own else _take_failed(settings, role, keys[role], work)
    job = LayerJob(recipe, recipe.layer(role), keys[role], tuple(blobs), components, lock.layers.get(role, ()))
    taken = take_components(settings, store, components, job.layer.components, work / "components")
    command = Command(("chroot", str(work / "root"), "/bin/bash", "-i"), has_network=network)
    sys.stderr.write(f"layer {role}, {state}; leave with `exit`\n")
    try:
        commands = (*index_commands(work, job.layer), command)
        chamber = Chamber(work, tuple(blobs), commands, layer_binds(settings, work, job, taken))
        return attach_to_chamber(chamber, env={"debian_chroot": role, "HOME": "/root"})
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take_failed(settings: Settings, role: str, key: str, work: Path) -> str:
    failed = failed_folder(settings, role)
    if not (failed / "key").is_file():
        return "before its role ran"
    # With owners, attributes and the overlay's marks of deleted files, which are devices.
    process.run(["cp", "--archive", failed / "upper", work / "upper"], timeout_s=1800)
    same = (failed / "key").read_text() == key
    return "as its role left it when it failed" + ("" if same else " (the role has changed since)")


def _missing(recipe: Recipe, name: str, role: str) -> NotFound:
    return NotFound(
        f"layer {name}, which {role} stands on, was not made yet",
        resolution=f"make it: qtrade bake --recipe {recipe.name} --only {name}",
    )
