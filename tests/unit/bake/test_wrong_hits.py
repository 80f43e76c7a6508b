"""Every field of a recipe and of a lock is changed, one at a time, as the models have them: no change may be a hit by mistake.

A change counts when it makes the lock stale (the bake is refused or locks again), gives a step another key, or gives the image another id.
What may change without any of these stands in `HARMLESS`, with its reason. A new field fails these tests until an example holds it.
"""

import copy
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from bake.components import list_components
from bake.inputs import read_inputs
from bake.lock.document import Lock
from bake.lock.wants import read_wants
from bake.plan import base_fields, base_key, key_of, kind_of, step_fields
from qtrade.errors import QtradeError
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from qtrade.store import BlobRecord
from tests.fakes.examples import EPOCH, make_settings, sha

pytestmark = pytest.mark.unit

COMMIT = "a1" * 20
PRINT = "A1" * 20
RECIPE: dict[str, Any] = {
    "schema_version": 1,
    "name": "demo",
    "epoch": EPOCH,
    "lock": "auto",
    "base": {"suite": "trixie", "kernel": "linux-image-amd64", "packages": ["udev"]},
    "cmdline": "quiet",
    "size_budget_mib": 100,
    "pins": {"chrony": "4.6"},
    "components": {
        "folder": {"kind": "source", "path": "folder", "version": "1", "standin": False},
        "built": {
            "kind": "source",
            "git": {"url": "https://git.example.org/x", "tag": "v1", "commit": COMMIT},
            "version": "1",
            "rustc": "1.96.1",
            "standin": False,
            "build": {
                "packages": ["gcc"],
                "fetch": "make fetch",
                "command": "make",
                "output": "out",
                "versions": ["gcc --version"],
                "environment": {"CFLAGS": "-O2"},
                "timeout_s": 60,
            },
        },
        "deb": {
            "kind": "apt",
            "repository": "https://apt.example.org/",
            "suite": "stable",
            "section": "main",
            "key": "keys/x.asc",
            "fingerprint": PRINT,
            "package": "x",
            "version": "1",
            "standin": False,
        },
        "file": {
            "kind": "url",
            "url": "https://example.org/x",
            "sha256": sha("file"),
            "size": 3,
            "checksums": "https://example.org/sums",
            "version": "1",
            "standin": False,
        },
        "asset": {
            "kind": "github",
            "repository": "a/b",
            "tag": "v{version}",
            "asset": "x.tar",
            "checksums": "sums.txt",
            "sha256": sha("asset"),
            "private": False,
            "api": "https://api.example.org",
            "version": "1",
            "standin": False,
        },
    },
    "layers": [
        {
            "role": "host",
            "needs": ["base"],
            "packages": ["chrony"],
            "vars": {"host_x": 1},
            "components": ["folder"],
            "toggles": {"host_y": True},
            "timeout_s": 1800,
        },
        {"role": "app", "needs": ["host"], "components": ["built", "deb", "file", "asset"]},
    ],
}
PACKAGE = {
    "name": "udev",
    "version": "1",
    "architecture": "amd64",
    "sha256": sha("udev"),
    "size": 5,
    "filename": "pool/udev.deb",
}
FILE = {
    "kind": "file",
    "version": "1",
    "address": "https://example.org/x",
    "file": "x.bin",
    "size": 3,
    "digest_from": "first fetch",
    "signed_by": PRINT,
}
LOCK: dict[str, Any] = {
    "schema_version": 1,
    "recipe": "demo",
    "suite": "trixie",
    "wants": {},
    "tools": [{**PACKAGE, "name": "erofs-utils", "sha256": sha("erofs-utils")}],
    "base": [PACKAGE],
    "layers": {"host": [{**PACKAGE, "name": "chrony", "sha256": sha("chrony")}]},
    "builders": {"built": [{**PACKAGE, "name": "gcc", "sha256": sha("gcc")}]},
    "components": {
        "built": {
            "kind": "build",
            "version": "1",
            "tag": "v1",
            "commit": COMMIT,
            "key": sha("key"),
            "file": "built.tar",
            "sha256": sha("built"),
            "size": 9,
            "provenance": sha("provenance"),
        },
        **{name: {**FILE, "sha256": sha(name)} for name in ("deb", "file", "asset")},
    },
    "collections": {"community.general": {"version": "11.4.2", "sha256": sha("collection")}},
}
# Why a change of these needs no other bytes. Paths as `paths_of` gives them, places in lists and names in mappings left out.
HARMLESS = {
    "recipe.name": "images of another line share the layers; the version document has the name",
    "recipe.lock": "where the lock lies, not what is in it",
    "recipe.size_budget_mib": "a limit that is checked at each bake",
    "recipe.schema_version": "one value only",
    "recipe.components.kind": "decides which fields there are; one value for each",
    "recipe.components.standin": "a flag in image.json, made anew at each bake",
    "recipe.components.build.timeout_s": "a limit on the work",
    "recipe.layers.timeout_s": "a limit on the work",
    "lock.schema_version": "one value only",
    "lock.recipe": "the lock's own name",
    "lock.wants": "compared with the recipe before anything else",
    "lock.tools.size": "the digest pins the bytes",
    "lock.tools.filename": "where the archive has it; the digest pins the bytes",
    "lock.base.size": "the digest pins the bytes",
    "lock.base.filename": "where the archive has it; the digest pins the bytes",
    "lock.layers.size": "the digest pins the bytes",
    "lock.layers.filename": "where the archive has it; the digest pins the bytes",
    "lock.components.kind": "one value for each",
    "lock.components.size": "the digest pins the bytes",
    "lock.components.address": "where upstream has it; the digest pins the bytes",
    "lock.components.digest_from": "how the digest became known",
    "lock.components.signed_by": "how the digest became known",
    "lock.components.tag": "how the commit became known",
    "lock.components.commit": "of which the result was built: the digest pins the result",
    "lock.components.key": "of which the result was built: the digest pins the result",
    "lock.components.provenance": "what is told of the result: the digest pins the result",
    "lock.components.version": "compared with the recipe's by the lock; image.json has the recipe's",
    "lock.builders.name": "of which the result was built: the digest pins the result",
    "lock.builders.version": "of which the result was built: the digest pins the result",
    "lock.builders.architecture": "of which the result was built: the digest pins the result",
    "lock.builders.sha256": "of which the result was built: the digest pins the result",
    "lock.builders.size": "of which the result was built: the digest pins the result",
    "lock.builders.filename": "of which the result was built: the digest pins the result",
    "lock.suite": "the recipe's, which is in the key of the base",
}

HARMLESS_HERE = {
    "recipe.components.version ('components', 'folder', 'version')": "a folder is taken as it is; image.json has its version",
}


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    for path in ("folder/file", "other/file", "ansible/roles/host/tasks/main.yml", "ansible/roles/app/tasks/main.yml"):
        (settings.project / path).parent.mkdir(parents=True, exist_ok=True)
        (settings.project / path).write_text(path)
    return settings


def outcome(settings: Settings, recipe_fields: dict[str, Any], lock_fields: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides between a hit and a build, and what of the image's id is not bytes."""
    recipe, lock = Recipe.model_validate(recipe_fields), Lock.model_validate(lock_fields)
    components = list_components(settings, recipe, lock)
    roles = tuple(layer.role for layer in recipe.layers)
    inputs = read_inputs(settings, roles, {name: item.identity for name, item in components.items()}, lock)
    base = BlobRecord(base_key(recipe, inputs), "base", sha("base bytes"))
    steps = {"base": base_fields(recipe, inputs), **step_fields(recipe, inputs, base)}
    keys = {name: key_of(kind_of(name), fields) for name, fields in steps.items()}
    return {"wants": read_wants(settings, recipe), "keys": keys, "cmdline": recipe.cmdline}


def paths_of(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every leaf of a document."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from paths_of(value, (*at, key))
    elif isinstance(document, list) and document:
        for index, value in enumerate(document):
            yield from paths_of(value, (*at, index))
    else:
        yield at


def other_values(value: Any) -> Iterator[Any]:
    """Yield values that are not `value`, likely ones first; the model says which of them are valid."""
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
        case str():
            flipped = ("b" if value[-1:] != "b" else "c") if value else "x"
            yield from (
                "other",
                "forky",
                value[:-1] + flipped,
                f"{value}b",
                value[:-1] + "B",
                "base",
                "host",
                "built",
                "committed",
            )


def mutations(model: type[BaseModel], document: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    for path in paths_of(document):
        for value in other_values(_get(document, path)):
            changed = copy.deepcopy(document)
            _get(changed, path[:-1])[path[-1]] = value
            try:
                model.model_validate(changed)
            except ValidationError:
                continue
            if changed != document:
                yield path, changed
                break


def _get(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def label(kind: str, path: tuple[Any, ...]) -> str:
    """Return the path without places in lists and without the names of mappings that people choose."""
    free = {"components": 1, "layers": 1 if kind == "lock" else 0, "builders": 1, "collections": 1}
    words, skip = [kind], 0
    for step in path:
        if skip:
            skip -= 1
        elif isinstance(step, str):
            words.append(step)
            skip = free.get(step, 0) if len(words) == 2 else 0
            if step in ("vars", "toggles", "environment", "wants", "pins"):
                break
    return ".".join(words)


MUTATIONS = [
    *((f"{label('recipe', path)} {path}", changed, LOCK) for path, changed in mutations(Recipe, RECIPE)),
    *((f"{label('lock', path)} {path}", RECIPE, changed) for path, changed in mutations(Lock, LOCK)),
]


@pytest.mark.parametrize(("name", "recipe", "lock"), MUTATIONS, ids=[item[0] for item in MUTATIONS])
def test_a_changed_field_is_no_hit_by_mistake(settings, name, recipe, lock) -> None:
    try:
        after = outcome(settings, recipe, lock)
    except QtradeError:
        return  # refused is no hit
    if name.split(" ")[0] not in HARMLESS and name not in HARMLESS_HERE:
        assert after != outcome(settings, RECIPE, LOCK), f"{name} changed, and everything is a hit"


def fields_of(model: Any) -> Iterator[str]:
    """Yield the path of every leaf field that a model can have, through its submodels and their kinds."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            inner = list(_inner_models(field.annotation))
            if not inner:
                yield name
            for one in inner:
                yield from (f"{name}.{rest}" for rest in fields_of(one))


def _inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        for argument in typing.get_args(annotation):
            yield from _inner_models(argument)


@pytest.mark.parametrize(("kind", "model", "document"), [("recipe", Recipe, RECIPE), ("lock", Lock, LOCK)])
def test_the_examples_hold_every_field_of_the_models(kind, model, document) -> None:
    known = {f"{kind}.{field}" for field in fields_of(model)}
    shown = {label(kind, path) for path in paths_of(document)}
    assert known - shown == set()
    assert shown - known == set()


def test_every_field_is_mutated_or_has_one_value_only() -> None:
    mutated = {name.split(" ")[0] for name, _, _ in MUTATIONS}
    every = {
        label(kind, path) for kind, document in (("recipe", RECIPE), ("lock", LOCK)) for path in paths_of(document)
    }
    assert every - mutated <= {path for path, why in HARMLESS.items() if "one value" in why} | {"lock.wants"}


def test_nothing_is_harmless_that_no_field_is() -> None:
    every = {
        label(kind, path) for kind, document in (("recipe", RECIPE), ("lock", LOCK)) for path in paths_of(document)
    }
    assert set(HARMLESS) - every == set()
