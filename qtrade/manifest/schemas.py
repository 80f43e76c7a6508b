"""JSON Schemas of the files that people write and of the image document, for editors and other programs.

`python -m qtrade.manifest.schemas` writes them again after a model has changed.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from qtrade.manifest import (
    Dashboard,
    DriftIgnores,
    Environment,
    Host,
    Identity,
    Image,
    MetricNames,
    Monitors,
    Recipe,
    Waivers,
)
from qtrade.settings import load_settings

MODELS: tuple[type[BaseModel], ...] = (
    Recipe,
    Host,
    Environment,
    Identity,
    Image,
    Waivers,
    Monitors,
    Dashboard,
    MetricNames,
    DriftIgnores,
)
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each model by its name in small letters."""
    return {model.__name__.lower(): {"$schema": _DIALECT, **model.model_json_schema()} for model in MODELS}


def write_schemas(folder: Path) -> tuple[Path, ...]:
    """Write one `<model>.schema.json` per model into `folder`, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in manifest_schemas().items():
        path = folder / f"{name}.schema.json"
        path.write_text(json.dumps(document, indent=2) + "\n")
        written.append(path)
    return tuple(written)


if __name__ == "__main__":
    write_schemas(load_settings().project / "manifests/schemas")
