"""The files that people write, from their JSON Schemas."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.site.pages.table import code, table

# Where such a file stands, by the name of its schema. A schema that is new here gets a page all the same.
PLACES = {
    "recipe": "manifests/images/<recipe>.yaml",
    "host": "manifests/hosts/<host>.yaml",
    "environment": "manifests/environments/<environment>.yaml",
    "identity": "manifests/identities/<name>.yaml",
    "waivers": "manifests/waivers/<recipe>.yaml",
    "monitors": "manifests/monitoring/monitors/<name>.yaml",
    "dashboard": "manifests/monitoring/dashboards/<name>.yaml",
    "metricnames": "manifests/monitoring/metrics.yaml",
    "driftignores": "manifests/drift/<environment>.yaml",
    "image": "image.json, which a bake writes",
}

Schema = dict[str, Any]


def render_schemas(folder: Path) -> dict[str, str]:
    """Return a page for each `<name>.schema.json` in `folder`, by name."""
    files = sorted(folder.glob("*.schema.json"))
    return {file.name.removesuffix(".schema.json"): _page(file) for file in files}


def _page(file: Path) -> str:
    schema: Schema = json.loads(file.read_text())
    name = file.name.removesuffix(".schema.json")
    where = f"Place: `{PLACES[name]}`. " if name in PLACES else ""
    definitions: Schema = schema.get("$defs", {})
    blocks = [
        f"# {schema.get('title', name)}\n",
        f"{_text(schema)}\n",
        f"{where}{_made_of(file.name)}\n",
        _fields(schema, definitions),
    ]
    blocks += [
        f"## {title}\n\n{_text(part)}\n\n{_fields(part, definitions)}" for title, part in sorted(definitions.items())
    ]
    return "\n".join(blocks)


def _made_of(file: str) -> str:
    made = f"Made of [`{file}`](../../../manifests/schemas/{file}), which editors can check files with."
    return f"{made} A field that does not stand here is an error that names file, line and field."


def _fields(schema: Schema, definitions: Schema) -> str:
    if "enum" in schema:
        return f"One of {', '.join(code(str(value)) for value in schema['enum'])}.\n"
    rows = [
        (code(name), _kind(part), _default(schema, name, part), _meaning(part, definitions))
        for name, part in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "default", "meaning"), rows) if rows else "No fields.\n"


def _text(schema: Schema) -> str:
    return str(schema.get("description", ""))


def _meaning(part: Schema, definitions: Schema) -> str:
    """Return what a field says of itself, else the first sentence of what it holds, and what else its value must be."""
    text = _text(part)
    for inner in (part, part.get("items") or {}, *part.get("anyOf", ())):
        if not text and "$ref" in inner:
            text = _text(definitions[str(inner["$ref"]).rsplit("/", 1)[-1]]).split(". ")[0].rstrip(".")
    return text + _limits(part)


def _default(schema: Schema, name: str, part: Schema) -> str:
    if name in schema.get("required", ()):
        return "required"
    value = part.get("default")
    return "" if value in (None, []) or isinstance(value, dict) else code(json.dumps(value))


def _kind(part: Schema) -> str:
    if "$ref" in part:
        title = str(part["$ref"]).rsplit("/", 1)[-1]
        return f"[{title}](#{title.lower()})"
    if "const" in part:
        return code(json.dumps(part["const"]))
    if "enum" in part:
        return ", ".join(code(str(value)) for value in part["enum"])
    for several in ("anyOf", "oneOf"):
        if several in part:
            return " or ".join(dict.fromkeys(_kind(one) for one in part[several] if one.get("type") != "null"))
    return _container(part)


def _container(part: Schema) -> str:
    match part.get("type"):
        case "array":
            inner = part.get("items") or {}
            several = part.get("prefixItems")
            return f"list of {_kind(inner)}" if not several else ", ".join(_kind(one) for one in several)
        case "object":
            values = part.get("additionalProperties")
            return f"map to {_kind(values)}" if isinstance(values, dict) else "map"
        case str(kind):
            return kind
        case _:
            return "anything"


def _limits(part: Schema) -> str:
    """Return what else a value must be, as a sentence behind its meaning."""
    said = list(_bounds(part))
    return f" ({'; '.join(said)})" if said else ""


def _bounds(part: Schema) -> Iterator[str]:
    for one in (part, *part.get("anyOf", ())):
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
            ("minItems", "at least so many:"),
            ("minLength", "at least so many characters:"),
        ):
            if key in one:
                yield f"{words} {one[key]}"
        if "pattern" in one:
            yield f"matches {code(one['pattern'])}"
