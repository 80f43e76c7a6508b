"""The plan of a bake: a pure function of recipe, digests of inputs and what the store holds."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.store import BlobRecord

INITRD = "initrd"
INSTALLER = "installer"
KERNEL = "kernel"


class Action(StrEnum):
    """What a step does."""

    HIT = "hit"
    BUILD = "build"


@dataclass(frozen=True)
class Inputs:
    """SHA-256 digests of everything that bytes depend on, besides the recipe itself.

    `engine` covers qtrade's own code that makes bytes; `roles`, `initramfs` and `components` are digests of trees or files.
    """

    engine: str
    ids: str
    roles: Mapping[str, str]
    initramfs: Mapping[str, str]
    components: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """One thing to make or to take from the store. `key` is empty while a needed step's own result is unknown."""

    name: str
    action: Action
    key: str
    reason: str


def digest_of(document: Any) -> str:
    """Return the SHA-256 of a JSON document in canonical form."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def base_key(recipe: Recipe, inputs: Inputs) -> str:
    """Return the key of the base layer."""
    return digest_of(["base", inputs.engine, inputs.ids, recipe.epoch, recipe.base.model_dump(mode="json")])


def layer_fields(
    recipe: Recipe, role: str, inputs: Inputs, base: BlobRecord, keys: Mapping[str, str]
) -> dict[str, str]:
    """Return the named digests that a layer's key is made of, so that a miss can say which of them changed."""
    layer = next(layer for layer in recipe.layers if layer.role == role)
    parents = {need: keys[need] for need in recipe.ancestors(role) if need != BASE}
    return {
        "engine": inputs.engine,
        "base": base.digest,
        "package index": base.facts["index"] if layer.packages else "",
        "needs": digest_of(parents),
        "role files": inputs.roles[role],
        "packages": digest_of(layer.packages),
        "vars": digest_of([layer.vars, layer.toggles]),
        "components": digest_of({name: inputs.components[name] for name in layer.components}),
        "epoch": str(recipe.epoch),
    }


def layer_key(fields: Mapping[str, str]) -> str:
    """Return the key of a layer."""
    return digest_of(["layer", dict(fields)])


def initramfs_key(name: str, inputs: Inputs, base: BlobRecord, extra: Any = None) -> str:
    """Return the key of an initial RAM filesystem (`INITRD` or `INSTALLER`)."""
    return digest_of([name, inputs.engine, base.digest, inputs.initramfs[name], extra])


def plan_bake(recipe: Recipe, inputs: Inputs, find: Callable[[str], BlobRecord | None]) -> tuple[Step, ...]:
    """Return the steps of a bake in order, each with its reason. `find` looks a key up in the store."""
    base = find(base_key(recipe, inputs))
    if base is None:
        names = (BASE, INITRD, INSTALLER, *(layer.role for layer in recipe.layers))
        reason = "not in the store"
        return tuple(
            Step(
                name,
                Action.BUILD,
                base_key(recipe, inputs) if name == BASE else "",
                reason if name == BASE else "base is new",
            )
            for name in names
        )
    steps = [Step(BASE, Action.HIT, base_key(recipe, inputs), "hit")]
    for name in (INITRD, INSTALLER):
        key = initramfs_key(name, inputs, base)
        steps.append(_step(name, key, find, "its files or the base changed"))
    keys: dict[str, str] = {}
    built: set[str] = set()
    for layer in recipe.layers:
        fields = layer_fields(recipe, layer.role, inputs, base, keys)
        keys[layer.role] = layer_key(fields)
        parents = [need for need in recipe.ancestors(layer.role) if need in built]
        last = find(digest_of(["last", recipe.name, layer.role]))
        changed = [name for name, value in fields.items() if last is not None and last.facts.get(name) != value]
        reason = (
            f"{parents[0]} changed" if parents else f"{', '.join(changed)} changed" if changed else "not in the store"
        )
        step = _step(layer.role, keys[layer.role], find, reason)
        if step.action is Action.BUILD:
            built.add(layer.role)
        steps.append(step)
    return tuple(steps)


def _step(name: str, key: str, find: Callable[[str], BlobRecord | None], reason: str) -> Step:
    if find(key) is not None:
        return Step(name, Action.HIT, key, "hit")
    return Step(name, Action.BUILD, key, reason)
