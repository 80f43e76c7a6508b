"""The plan of a bake: a pure function of recipe, digests of inputs and what the store holds."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qtrade.manifest import Image, Recipe
from qtrade.manifest.recipe import BASE
from qtrade.store import BlobRecord

INITRD = "initrd"
INSTALLER = "installer"
KERNEL = "kernel"
LAYER = "layer"

# What a key is made of: the names of inputs and their values, digests for the large ones.
Fields = Mapping[str, str]


class Action(StrEnum):
    """What a step does."""

    HIT = "hit"
    BUILD = "build"


@dataclass(frozen=True)
class Inputs:
    """Everything that bytes depend on, besides the recipe itself: SHA-256 digests of files by their path in the project.

    `code` holds qtrade's own files that make bytes, by kind of step (`BASE`, `LAYER`, `INITRD`, `INSTALLER`). `components` are digests of
    files or trees by name. `versions` are versions of programs by name, and the digest of the tools root, for the kinds that run them.
    `packages` are the lock's packages for the base and for each layer that installs some: version and digest by name.
    """

    code: Mapping[str, Fields]
    roles: Mapping[str, Fields]
    components: Fields
    versions: Mapping[str, Fields]
    packages: Mapping[str, Fields]


@dataclass(frozen=True)
class Change:
    """An input that differs from the last time that the step was made; None where it was not there."""

    field: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.field} is new"
        if self.after is None:
            return f"{self.field} is gone"
        return f"{self.field} changed"


@dataclass(frozen=True)
class Step:
    """One thing to make or to take from the store. `key` is empty while a needed step's own result is unknown."""

    name: str
    action: Action
    key: str
    reason: str
    changes: tuple[Change, ...] = ()


def digest_of(document: Any) -> str:
    """Return the SHA-256 of a JSON document in canonical form."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def key_of(kind: str, fields: Fields) -> str:
    """Return the key of a step."""
    return digest_of([kind, dict(fields)])


def base_fields(recipe: Recipe, inputs: Inputs) -> dict[str, str]:
    """Return what the base layer's key is made of."""
    return {
        **inputs.code[BASE],
        **inputs.versions[BASE],
        **_values("base", recipe.base.model_dump(mode="json")),
        **{f"package.{name}": value for name, value in inputs.packages[BASE].items()},
        "epoch": str(recipe.epoch),
    }


def base_key(recipe: Recipe, inputs: Inputs) -> str:
    """Return the key of the base layer."""
    return key_of(BASE, base_fields(recipe, inputs))


def layer_fields(
    recipe: Recipe, role: str, inputs: Inputs, base: BlobRecord, keys: Mapping[str, str]
) -> dict[str, str]:
    """Return what a layer's key is made of. `keys` are those of the layers that it stands on."""
    layer = recipe.layer(role)
    return {
        **inputs.code[LAYER],
        **inputs.versions[LAYER],
        **inputs.roles[role],
        **{f"needs.{need}": keys[need] for need in recipe.ancestors(role) if need != BASE},
        **_values("vars", layer.vars),
        **_values("toggles", layer.toggles),
        **{f"components.{name}": inputs.components[name] for name in layer.components},
        "base": base.digest,
        "packages": json.dumps(layer.packages),
        **{f"package.{name}": value for name, value in inputs.packages.get(role, {}).items()},
        "epoch": str(recipe.epoch),
    }


def layer_key(fields: Fields) -> str:
    """Return the key of a layer."""
    return key_of(LAYER, fields)


def initramfs_fields(name: str, recipe: Recipe, inputs: Inputs, base: BlobRecord) -> dict[str, str]:
    """Return what the key of an initial RAM filesystem (`INITRD` or `INSTALLER`) is made of."""
    return {**inputs.code[name], **inputs.versions[name], "base": base.digest, "epoch": str(recipe.epoch)}


def initramfs_key(name: str, recipe: Recipe, inputs: Inputs, base: BlobRecord) -> str:
    """Return the key of an initial RAM filesystem (`INITRD` or `INSTALLER`)."""
    return key_of(name, initramfs_fields(name, recipe, inputs, base))


def step_fields(recipe: Recipe, inputs: Inputs, base: BlobRecord) -> dict[str, dict[str, str]]:
    """Return what the keys of all steps but the base are made of, by name, in the order of a plan."""
    steps = {name: initramfs_fields(name, recipe, inputs, base) for name in (INITRD, INSTALLER)}
    keys: dict[str, str] = {}
    for layer in recipe.layers:
        steps[layer.role] = layer_fields(recipe, layer.role, inputs, base, keys)
        keys[layer.role] = layer_key(steps[layer.role])
    return steps


def find_different(recipe: Recipe, inputs: Inputs, image: Image) -> tuple[str, ...]:
    """Return what an image was made of something else than these: roles by their keys, `cmdline`. All that is known before a bake."""
    bottom = image.layers[0]
    keys = {BASE: base_key(recipe, inputs)}
    if keys[BASE] == bottom.key:
        base = BlobRecord(bottom.key, BASE, bottom.digest, bottom.size, bottom.verity)
        steps = step_fields(recipe, inputs, base)
        keys |= {layer.role: layer_key(steps[layer.role]) for layer in recipe.layers}
        theirs = {layer.role: layer.key for layer in image.layers}
    else:  # the keys of all others follow from the base's
        theirs = {BASE: bottom.key}
    roles = tuple(role for role in {**keys, **theirs} if keys.get(role) != theirs.get(role))
    return (*roles, *(("cmdline",) if recipe.cmdline != image.cmdline else ()))


def kind_of(name: str) -> str:
    """Return the kind of step that `name` is."""
    return name if name in (BASE, INITRD, INSTALLER) else LAYER


@dataclass(frozen=True)
class Choice:
    """Which steps a bake makes or finds, besides the base, and which of all it makes again although the store has them."""

    wanted: frozenset[str]
    forced: frozenset[str] = frozenset()


def choose_all(recipe: Recipe, *, from_scratch: bool = False) -> Choice:
    """Return the choice of a whole image."""
    everything = frozenset({INITRD, INSTALLER, *(layer.role for layer in recipe.layers)})
    return Choice(everything, everything | {BASE} if from_scratch else frozenset())


def choose_layers(recipe: Recipe, role: str, *, only: bool, from_scratch: bool = False) -> Choice:
    """Return the choice of the layers up to that of `role` in the recipe's order, or with `only` of that one and its needs.

    `from_scratch` makes them again; with `only`, that of `role` alone.
    """
    roles = [layer.role for layer in recipe.layers]
    tops = [role] if only else roles[: roles.index(role) + 1]
    wanted = frozenset(need for top in tops for need in (*recipe.ancestors(top), top)) - {BASE}
    again = frozenset({role}) if only else wanted
    return Choice(wanted, again if from_scratch else frozenset())


def plan_bake(
    recipe: Recipe,
    inputs: Inputs,
    find: Callable[[str], BlobRecord | None],
    last: Mapping[str, Fields],
    choice: Choice | None = None,
) -> tuple[Step, ...]:
    """Return the steps of a bake in order, each with its reason.

    `find` looks a key up in the store; `last` says what each step was made of the last time. Without a `choice`, of a whole image.
    """
    choice = choice or choose_all(recipe)
    fields = base_fields(recipe, inputs)
    key = key_of(BASE, fields)
    base = find(key)
    first = _step(BASE, key, fields, choice, last, found=base is not None)
    if base is None:
        names = (INITRD, INSTALLER, *(layer.role for layer in recipe.layers))
        return (first, *(Step(name, Action.BUILD, "", "base changed") for name in names if name in choice.wanted))
    steps = [first]
    for name, fields in step_fields(recipe, inputs, base).items():
        if name in choice.wanted:
            key = key_of(kind_of(name), fields)
            steps.append(_step(name, key, fields, choice, last, found=find(key) is not None))
    return tuple(steps)


def _step(name: str, key: str, fields: Fields, choice: Choice, last: Mapping[str, Fields], *, found: bool) -> Step:
    if name in choice.forced:
        return Step(name, Action.BUILD, key, "from scratch")
    if found:
        return Step(name, Action.HIT, key, "hit")
    changes = compare(last.get(name), fields)
    return Step(name, Action.BUILD, key, _reason(changes), changes)


def compare(before: Fields | None, after: Fields) -> tuple[Change, ...]:
    """Return the inputs that differ, in order of their names; none when there is nothing to compare with."""
    if before is None:
        return ()
    names = sorted({*before, *after})
    return tuple(
        Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def _reason(changes: tuple[Change, ...]) -> str:
    if not changes:
        return "not in the store"
    parents = [change.field.removeprefix("needs.") for change in changes if change.field.startswith("needs.")]
    own = [str(change) for change in changes if not change.field.startswith("needs.")]
    told = own[:2] + ([f"{len(own) - 2} more"] if len(own) > 2 else [])
    return ", ".join(told) if told else f"{parents[0]} below it changed"


def _values(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {f"{prefix}.{name}": json.dumps(value, sort_keys=True) for name, value in values.items()}
