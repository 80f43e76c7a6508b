"""Two layers without an ancestry relation must not touch the same path: which one wins would depend on their order."""

import re
from collections.abc import Iterable, Mapping

from qtrade.errors import Refused
from qtrade.manifest import Recipe


def check_overlaps(recipe: Recipe, paths: Mapping[str, tuple[str, ...]]) -> None:
    """Raise `Refused`, naming both layers and the path. `paths` are each layer's own (`BlobRecord.paths`), by its role."""
    found = sorted(_overlaps(recipe, paths))
    if found:
        raise Refused(
            f"{len(found)} path(s) are touched by two layers that do not need each other",
            details="\n".join(f"  {line}" for line in found),
            resolution="let one role own the path, or let one of the layers need the other",
        )


def _overlaps(recipe: Recipe, paths: Mapping[str, tuple[str, ...]]) -> Iterable[str]:
    kin = {layer.role: set(recipe.ancestors(layer.role)) for layer in recipe.layers}
    owners: dict[str, list[tuple[str, str]]] = {}
    for name, lines in paths.items():
        for line in lines:
            owners.setdefault(_path_of(line), []).append((name, line))
    for path, claims in owners.items():
        for index, (name, line) in enumerate(claims):
            for other, other_line in claims[index + 1 :]:
                related = name in kin.get(other, set()) or other in kin.get(name, set())
                same_folder = line.startswith("d ") and line == other_line
                if not related and not same_folder:
                    yield f"{name} and {other}: {path}"


def _path_of(line: str) -> str:
    return re.sub(r"^(f|d \S+) ", "", line)
