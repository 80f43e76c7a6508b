"""Read a YAML manifest into its model, with errors that name file, line, field, value and cure."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from qtrade.errors import BadInput, NotFound
from qtrade.manifest.formats import upgrade

M = TypeVar("M", bound=BaseModel)
# libyaml's, where the wheel has it: ten times quicker.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_manifest(model: type[M], path: Path) -> M:
    """Read `path` as `model`. Raises `NotFound` or `BadInput`."""
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text", details=str(error), resolution="save it as UTF-8") from error
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
        node = yaml.compose(text, Loader=LOADER)
        document = yaml.load(text, Loader=LOADER)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise BadInput(
            f"{source} is not YAML", details=str(error), resolution="mend the syntax at that place"
        ) from error
    twice = _find_repeated_key(node)
    if twice is not None:
        raise BadInput(
            f"{source} is not a valid {model.__name__.lower()}",
            details=f"  {source}:{twice.start_mark.line + 1}: {twice.value}: stands twice in the same place",
            resolution="keep one of the two: YAML would take the last and drop the other",
        )
    if not isinstance(document, dict):
        raise BadInput(f"{source} holds no mapping", resolution="start it with `schema_version: 1`")
    upgrade(model, document)
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
    field = "".join(f"{part}: " for part in [".".join(str(part) for part in path)] if part)
    message = item["msg"].removeprefix("Value error, ")
    # What is missing was not found, and a rule over the whole file names what it found itself.
    # Somebody may have put the secret itself where a reference belongs.
    shown = "what is no reference" if path[-1:] == ("keypair",) else f"{item['input']!r:.80}"
    found = "" if item["type"] == "missing" or not path else f" (found {shown})"
    return f"  {source}:{_line_of(node, path)}: {field}{message}{found}"


def _find_repeated_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return a key that stands twice in one mapping, or None."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in current.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    return key
                seen.add(str(key.value))
                pending.append(value)
        elif isinstance(current, yaml.SequenceNode):
            pending += current.value
    return None


def _line_of(node: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    line = node.start_mark.line + 1 if node else 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            match = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if match is None:  # missing, or the tag of a union, which stands in no file
                continue
            line, node = match[0].start_mark.line + 1, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
