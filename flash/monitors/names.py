"""What metrics are called: plugins rename theirs between versions, so the image decides."""

import re

from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Environment, Image, MetricNames
from qtrade.store import Store
from qtrade.trust.policy import rules_for

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


def choose_image(store: Store, environment: Environment, recipe: str, version: str | None) -> Image:
    """Return the image whose metrics are watched: that version, else where the environment's channel leads, else the newest.

    Raises `NotFound`.
    """
    pointer = None if version else store.channel(recipe, rules_for(environment).channel)
    found = version or (pointer.version if pointer else None)
    if found is None:
        versions = store.versions(recipe)
        if not versions:
            raise NotFound(
                f"the store has no version of {recipe}, and names of metrics depend on it",
                resolution=f"bake it, or name another recipe with --recipe (environment {environment.name})",
            )
        found = versions[-1]
    return Image.model_validate_json(store.read(recipe, found).image_text)


def metric_names(names: MetricNames, image: Image) -> dict[str, str]:
    """Return what each name stands for in the metrics of this image. Raises `BadInput`."""
    versions = {component.name: component.version for component in image.components}
    found = {}
    for name, entry in names.names.items():
        if entry.component not in versions:
            raise BadInput(
                f"metrics.yaml: {name} depends on component {entry.component}, which {image.name} {image.version} lacks",
                details=f"components: {', '.join(sorted(versions))}",
                resolution="correct `component`, or name a version of another recipe",
            )
        numbers = _numbers(versions[entry.component])
        fitting = [since for since in entry.since if _numbers(since) <= numbers]
        if not fitting:
            raise BadInput(
                f"metrics.yaml: {name} has no entry for {entry.component} {versions[entry.component]}",
                details=f"since: {', '.join(entry.since)}",
                resolution="add what that version calls it",
            )
        found[name] = entry.since[max(fitting, key=_numbers)]
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: 15.1.2 of 15.1.2+solana.4.2.0."""
    match = _NUMBERS.match(version.lstrip("v"))
    return tuple(int(part) for part in match[0].split(".")) if match else ()
