"""Read a YAML manifest into its model, with errors that name file, line, field, value and cure."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from qtrade.errors import BadInput, NotFound

M = TypeVar("M", bound=BaseModel)


def load_manifest(model: type[M], path: Path) -> M:
    """Read `path` as `model`. Raises `NotFound` or `BadInput`."""
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        known = sorted(other.stem for other in path.parent.glob("*.yaml"))
        raise NotFound(
            f"{path} does not exist",
            resolution=f"use one of: {', '.join(known)}" if known else "write it; manifests/schemas has its schema",
        ) from error
    return load_text(model, text, source=str(path))


def load_text(model: type[M], text: str, *, source: str) -> M:
    """Read YAML `text` as `model`; `source` names it in errors. Raises `BadInput`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(
            f"{source} is not YAML", details=str(error), resolution="mend the syntax at that place"
        ) from error
    if not isinstance(document, dict):
        raise BadInput(f"{source} holds no mapping", resolution="start it with `schema_version: 1`")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [_describe(source, node, item) for item in error.errors()]
        schema = f"manifests/schemas/{model.__name__.lower()}.schema.json"
        raise BadInput(
            f"{source} is not a valid {model.__name__.lower()}",
            details="\n".join(lines),
            resolution=f"correct the fields named above; {schema} lists what is allowed",
        ) from error


def _describe(source: str, node: yaml.Node | None, item: Any) -> str:
    path = item["loc"]
    line = _line_of(node, path)
    field = ".".join(str(part) for part in path)
    found = "" if item["type"] == "missing" else f" (found {item['input']!r:.80})"
    return f"  {source}:{line}: {field}: {item['msg']}{found}"


def _line_of(node: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    line = node.start_mark.line + 1 if node else 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            match = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if match is None:
                return line
            line, node = match[0].start_mark.line + 1, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
