"""Write a new version of a component into its recipe, comments and layout kept."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtrade.errors import BadInput, NotFound, UsageError, choose_from
from qtrade.manifest import Recipe, load_text


def edit_version(path: Path, name: str, version: str, *, dry_run: bool = False) -> Recipe:
    """Set `components.<name>.version` in the recipe file and return the new recipe. Raises as `set_version` and `edit_recipe`."""
    return edit_recipe(path, lambda document: set_version(document, path, name, version), dry_run=dry_run)


def edit_recipe(path: Path, change: Callable[[Any], None], *, dry_run: bool = False) -> Recipe:
    """Let `change` alter the recipe's document (ruamel's mappings, comments in them) and return the new recipe.

    The file is written at the end, in one step, unless it is a dry run. Raises `BadInput` for what is no recipe any more.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - only an edit needs it

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    text = path.read_text()
    document = editor.load(text)
    change(document)
    sink = io.StringIO()
    editor.dump(document, sink)
    changed = sink.getvalue()
    recipe = load_text(Recipe, changed, source=str(path))
    if not dry_run:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(changed)
        fresh.replace(path)
    return recipe


def set_version(document: Any, path: Path, name: str, version: str) -> None:
    """Set a component's version in the document.

    Raises `NotFound`, and `UsageError` when the recipe pins more than the version of it: digests and commits are a person's to change.
    """
    if name not in (document.get("components") or {}):
        raise NotFound(
            f"{path} has no component {name}",
            resolution=choose_from(name, document.get("components") or {}, "write it into the recipe"),
        )
    fields = document["components"][name]
    pinned = [field for field in ("sha256", "size") if field in fields]
    pinned += [f"git.{field}" for field in ("commit",) if (fields.get("git") or {}).get(field)]
    if pinned:
        raise UsageError(
            f"component {name} pins {', '.join(pinned)} in the recipe, which belong to version {fields['version']}",
            resolution=f"edit components.{name} in {path}, then run `qtrade lock`",
        )
    fields["version"] = same_quotes(fields["version"], version)


def same_quotes(old: Any, new: str) -> Any:
    """Return `new` in the quotes that `old` has in the file."""
    return type(old)(new) if isinstance(old, str) else new


def mentions(recipe: Recipe, version: str) -> tuple[str, ...]:
    """Return the variables of layers that hold `version`: they may need the same edit."""
    return tuple(
        f"layers.{layer.role}.vars.{key}"
        for layer in recipe.layers
        for key, value in layer.vars.items()
        if value == version
    )


def parse_name(text: str) -> tuple[str, str | None]:
    """Return name and version of `NAME[=VERSION]`. Raises `BadInput`."""
    name, equals, version = text.partition("=")
    if not name or (equals and not version):
        raise BadInput(f"{text!r} is neither NAME nor NAME=VERSION")
    return name, version or None
