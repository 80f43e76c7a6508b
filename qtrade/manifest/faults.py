"""What pydantic has against a field, in words for people: what was found, what is allowed, and what was meant."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from qtrade.errors import near_miss

_SHOWN_CHARACTERS = 80
# Patterns of the models, in words.
_IN_WORDS = {
    "^[a-z0-9][a-z0-9._-]{0,62}$": "at most 63 of a-z, 0-9, . _ -, and a letter or a digit first",
    "^[0-9a-f]{64}$": "a SHA-256: 64 digits of 0-9 and a-f",
    "^[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,62}$": "a version: at most 63 letters, digits and . + ~ : _ -",
    "^([0-9a-f]{2}:){5}[0-9a-f]{2}$": "a MAC address in small letters, such as 52:54:00:12:34:56",
    "^http://": "a URL that begins with http://",
    r"^https?://[^\s]+$": "a URL that begins with http:// or https://",
    r"^/[A-Za-z0-9/_-]+$": "an absolute path",
    r"^[^\n]*$": "one line",
}
# A secret itself may have been put where the name of its place belongs.
_HIDDEN = ("keypair", "token", "client_secret", "api_key", "app_key")


def describe_fault(model: type[BaseModel], item: Any) -> str:
    """Return `field: what is wrong (found value)` for one of pydantic's errors about `model`."""
    path = item["loc"]
    field = ".".join(str(part) for part in path)
    message = _message(model, item)
    # What is missing was not found, and a rule over the whole file names what it found itself.
    if item["type"] == "missing" or not path:
        found = ""
    elif {str(part) for part in path[-2:]} & {*_HIDDEN, "secrets"}:
        found = " (found what is no reference)"
    else:
        found = f" (found {item['input']!r:.{_SHOWN_CHARACTERS}})"
    return f"{field}: {message}{found}" if field else message


def _message(model: type[BaseModel], item: Any) -> str:
    context = item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            known = sorted(_fields_at(model.model_json_schema(), item["loc"][:-1]))
            meant = near_miss(str(item["loc"][-1]), known)
            return "unknown field" + (f"; did you mean {meant}?" if meant else f"; known: {', '.join(known)}")
        case "missing":
            return "is required"
        case "literal_error" | "enum" | "union_tag_invalid":
            told = context.get("expected") or context.get("expected_tags", "")
            allowed = [name.strip(" '") for name in told.replace(" or ", ", ").split(",")]
            return "must be " + _one_of(allowed) + _meant(_tag_of(item), allowed)
        case "union_tag_not_found":
            return f"{context.get('discriminator', 'kind')} is required"
        case "string_pattern_mismatch" if context.get("pattern") in _IN_WORDS:
            return f"must be {_IN_WORDS[context['pattern']]}"
        case _:
            return str(item["msg"]).removeprefix("Value error, ")


def _tag_of(item: Any) -> str:
    return str(item.get("ctx", {}).get("tag", item["input"]))


def _one_of(allowed: list[str]) -> str:
    return allowed[0] if len(allowed) == 1 else f"{', '.join(allowed[:-1])} or {allowed[-1]}"


def _meant(found: str, allowed: Iterable[str]) -> str:
    meant = near_miss(found.lower(), allowed)
    return f"; did you mean {meant}?" if meant else ""


def _fields_at(schema: dict[str, Any], path: tuple[str | int, ...]) -> set[str]:
    """Return the names of fields that a JSON Schema knows at a place: of all alternatives, where there are some."""
    places = list(_alternatives(schema, schema))
    for part in path:
        inner = [step for place in places for step in _step_into(place, part)]
        # The tag of a union stands in the path and in no file.
        places = [one for place in inner for one in _alternatives(schema, place)] or [
            place for place in places if place.get("properties", {}).get("kind", {}).get("const") == part
        ]
    return {name for place in places for name in place.get("properties", {})}


def _step_into(place: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(part, int):
        if "items" in place:
            yield place["items"]
        return
    if part in place.get("properties", {}):
        yield place["properties"][part]
    elif isinstance(place.get("additionalProperties"), dict):
        yield place["additionalProperties"]


def _alternatives(whole: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a place may be, with references followed."""
    if "$ref" in place:
        yield from _alternatives(whole, whole["$defs"][place["$ref"].rsplit("/", maxsplit=1)[-1]])
        return
    choices = [*place.get("anyOf", ()), *place.get("oneOf", ())]
    for choice in choices:
        yield from _alternatives(whole, choice)
    if not choices:
        yield place
