"""Versions of formats: the newest that this qtrade writes, and the steps that lead there from each released one.

A format that changes gets a new `schema_version` in its model and one step here, from the version before. Readers take the steps in
memory (`load`), `qtrade migrate` takes them in the file. A step is never changed once it was released.
"""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, get_args

from pydantic import BaseModel

# From a document of one version to the same of the next, in place; `schema_version` is counted on by whoever calls it.
Step = Callable[[MutableMapping[str, Any]], None]

# Model's name -> version -> the step that leads on from it. All formats that were released so far are of version 1.
STEPS: dict[str, Mapping[int, Step]] = {}


def newest_version(model: type[BaseModel]) -> int:
    """Return the version that the model reads: the one value of its `schema_version`, 1 where it takes any number."""
    return int(next(iter(get_args(model.model_fields["schema_version"].annotation)), 1))


def find_steps(model: type[BaseModel], version: object) -> tuple[Step, ...] | None:
    """Return the steps from `version` to the newest; none for the newest itself, None where that version was never released."""
    steps, newest = STEPS.get(model.__name__, {}), newest_version(model)
    if type(version) is not int or not all(number in steps for number in range(version, newest)) or version > newest:
        return None
    return tuple(steps[number] for number in range(version, newest))


def upgrade(model: type[BaseModel], document: MutableMapping[str, Any]) -> bool:
    """Bring a document of an earlier version to the newest, in place; say whether that changed it.

    One of a version that was never released stays as it is: the model refuses it by name.
    """
    if "schema_version" not in model.model_fields:
        return False
    steps = find_steps(model, document.get("schema_version"))
    for step in steps or ():
        step(document)
        document["schema_version"] += 1
    return bool(steps)
