"""Recipes and environments by name: the project's own, else those that come with qtrade."""

import re
from typing import TypeVar

from qtrade.errors import BadInput, NotFound, choose_from
from qtrade.manifest.environment import Environment
from qtrade.manifest.load import load_manifest
from qtrade.manifest.recipe import Recipe
from qtrade.settings import Settings

M = TypeVar("M", Recipe, Environment)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def load_recipe_named(settings: Settings, name: str) -> Recipe:
    """Return the recipe `name` as it stands in its file. Raises `NotFound`, `BadInput`."""
    return _load(settings, Recipe, "recipe", "manifests/images", name)


def load_environment_named(settings: Settings, name: str) -> Environment:
    """Return the environment `name`. Raises `NotFound`, `BadInput`."""
    return _load(settings, Environment, "environment", "manifests/environments", name)


def _load(settings: Settings, model: type[M], what: str, folder: str, name: str) -> M:
    path = settings.find(f"{folder}/{name}.yaml") if _NAME.fullmatch(name) else None
    if path is None or not path.exists():
        known = [file.stem for file in settings.find_all(folder, "*.yaml")]
        raise NotFound(
            f"there is no {what} {name!r:.80}",
            details=f"looked in {settings.project / folder}",
            resolution=choose_from(
                name, known, f"write {folder}/{name}.yaml; `qtrade schema {what}` says what it may hold"
            ),
        )
    found = load_manifest(model, path)
    if found.name != name:
        raise BadInput(
            f"{path} describes the {what} {found.name}, not {name}",
            details=f"  {path}: name: {found.name}",
            resolution=f"correct `name` there, or call the file {found.name}.yaml",
        )
    return found
