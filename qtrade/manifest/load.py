"""Read a YAML manifest into its model, with errors that name file, line, field, value and cure."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from qtrade.errors import BadInput, NotFound, choose_from
from qtrade.manifest.faults import describe_fault, real_faults
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
            resolution=choose_from(path.stem, known, f"write it; {_schema_of(model)}"),
        ) from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}",
            resolution="make it a file that you may read, or run qtrade as whoever may",
        ) from error
    return load_text(model, text, source=str(path))


def load_text(model: type[M], text: str, *, source: str) -> M:
    """Read YAML `text` as `model`; `source` names it in errors. Raises `BadInput`."""
    try:
        node = yaml.compose(text, Loader=LOADER)
        document = yaml.load(text, Loader=LOADER)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise _no_yaml(source, text, error) from error
    except (ValueError, RecursionError) as error:  # a date such as 2026-02-30, or thousands of brackets
        raise BadInput(
            f"{source} is not YAML", details=f"  {source}: {error}", resolution="quote what is meant as text"
        ) from error
    twice = _find_repeated_key(node)
    if twice is not None:
        raise BadInput(
            f"{source} is not a valid {model.__name__.lower()}",
            details=f"  {source}:{twice.start_mark.line + 1}: {twice.value}: stands twice in the same place",
            resolution="keep one of the two: YAML would take the last and drop the other",
        )
    if not isinstance(document, dict):
        raise BadInput(
            f"{source} holds no mapping",
            details=f"  {source}:1: found {'nothing' if document is None else repr(document)[:80]}",
            resolution=f"start it with `schema_version: 1`; {_schema_of(model)}",
        )
    upgrade(model, document)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = [(item, describe_fault(model, item)) for item in real_faults(error.errors())]
        lines = [f"  {source}:{_line_of(node, item['loc'] or _named_in(node, text))}: {text}" for item, text in faults]
        raise BadInput(
            f"{source} is not a valid {model.__name__.lower()}",
            details="\n".join(lines),
            resolution=f"correct what is named above; {_schema_of(model)}",
        ) from error


def _schema_of(model: type[BaseModel]) -> str:
    from qtrade.manifest.schemas import MODELS  # noqa: PLC0415 - it imports this package

    if model in MODELS:
        return f"`qtrade schema {model.__name__.lower()}` says what is allowed"
    return f"its fields are {', '.join(model.model_fields)}"


def _no_yaml(source: str, text: str, error: yaml.YAMLError) -> BadInput:
    """Return the error for text that is no YAML: place, the line itself, what is wrong with it, and how to mend it."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    problem = str(getattr(error, "problem", None) or error)
    begin = getattr(error, "context_mark", None)
    if begin is not None and begin.line + 1 != line:
        problem += f" ({getattr(error, 'context', '')} from line {begin.line + 1} on)"
    lines = text.splitlines()
    # The fault often lies in the line before the one at which the reader gave up.
    near = [number for number in (line - 1, line) if 0 < number <= len(lines)]
    with_tab = next((number for number in near if "\t" in lines[number - 1]), None)
    shown = f"\n    {lines[line - 1][:100].expandtabs()}" if line <= len(lines) else ""
    if with_tab is not None:
        return BadInput(
            f"{source} is not YAML",
            details=f"  {source}:{with_tab}: a tab, which YAML does not allow here\n    {lines[with_tab - 1][:100].expandtabs()}",
            resolution="use spaces in place of the tab",
        )
    return BadInput(
        f"{source} is not YAML", details=f"  {source}:{line}: {problem}{shown}", resolution="mend the syntax there"
    )


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


def _named_in(node: yaml.Node | None, text: str) -> tuple[str, ...]:
    """Return the field that a rule over the whole file begins to speak of, if it is one of the file's."""
    first = text.replace(".", " ").split(" ", maxsplit=1)[0]
    fields = node.value if isinstance(node, yaml.MappingNode) else []
    return (first,) if any(key.value == first for key, _ in fields) else ()


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
