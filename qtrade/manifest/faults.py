"""What pydantic has against a field, in words for people: what was found, what is allowed, and what was meant."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from qtrade.errors import near_miss
from qtrade.manifest.secrets import REFERENCE

_SHOWN_CHARACTERS = 80
# Patterns of the models, in words.
_IN_WORDS = {
    "^[a-z0-9][a-z0-9._-]{0,62}$": "at most 63 of a-z, 0-9, . _ -, and a letter or a digit first",
    "^[0-9a-f]{64}$": "a SHA-256: 64 digits of 0-9 and a-f",
    "^[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,62}$": "a version: at most 63 letters, digits and . + ~ : _ -",
    "^([0-9a-f]{2}:){5}[0-9a-f]{2}$": "a MAC address in small letters, such as 52:54:00:12:34:56",
    "^http://": "a URL that begins with http://",
    r"^https?://[^\s]+$": "a URL that begins with http:// or https://",
    r"^https?://[^\s@']+$": "a URL that begins with http:// or https://, without a login in it",
    r"^/[A-Za-z0-9/_-]+$": "an absolute path",
    r"^[^\n]*$": "one line",
}
# Kinds of pydantic's errors, in words.
_RULES = {
    "missing": "is required",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "date_from_datetime_parsing": "must be a day, such as 2026-12-31 (YYYY-MM-DD)",
    "date_parsing": "must be a day, such as 2026-12-31 (YYYY-MM-DD)",
    "date_type": "must be a day, such as 2026-12-31 (YYYY-MM-DD)",
    "ip_v4_address": "must be an IPv4 address, such as 192.0.2.10",
}
# A secret itself may have been put where the name of its place belongs.
_HIDDEN = frozenset({"keypair", "token", "client_secret", "api_key", "app_key", "secret", "secrets"})
# What stands before the host in a URL may be a password.
_LOGIN = re.compile(r"//[^/\s@]*@")


def real_faults(errors: Iterable[Any]) -> list[Any]:
    """Return pydantic's errors without those that only follow from others: a list that is too short since its items are wrong."""
    found = list(errors)
    places = [item["loc"] for item in found]
    return [
        item
        for item in found
        if item["type"] != "too_short"
        or not any(len(place) > len(item["loc"]) and place[: len(item["loc"])] == item["loc"] for place in places)
    ]


def describe_fault(model: type[BaseModel], item: Any) -> str:
    """Return `field: what is wrong (found value)` for one of pydantic's errors about `model`."""
    path = item["loc"]
    field = ".".join(str(part) for part in path)
    message = _message(model, item)
    # What is missing was not found, and a rule over the whole file names what it found itself.
    if item["type"] == "missing" or not path:
        found = ""
    elif {str(part) for part in path[-2:]} & _HIDDEN or item.get("ctx", {}).get("pattern") == REFERENCE:
        found = " (found what is no reference)"
    else:
        found = f" (found {_LOGIN.sub('//…@', repr(item['input'])):.{_SHOWN_CHARACTERS}})"
    return f"{field}: {message}{found}" if field else message


def _message(model: type[BaseModel], item: Any) -> str:
    context, kind = item.get("ctx", {}), item["type"]
    if kind in _RULES:
        return _RULES[kind].format(**context)
    if kind == "string_pattern_mismatch" and context.get("pattern") in _IN_WORDS:
        return f"must be {_IN_WORDS[context['pattern']]}"
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        return _choices(item, context)
    match kind:
        case "extra_forbidden":
            known = sorted(_fields_at(model.model_json_schema(), item["loc"][:-1]))
            meant = near_miss(str(item["loc"][-1]), known)
            return "unknown field" + (f"; did you mean {meant}?" if meant else f"; known: {', '.join(known)}")
        case "union_tag_not_found":
            return f"{context.get('discriminator', 'kind').strip(chr(39))} is required"
        case _:
            return str(item["msg"]).removeprefix("Value error, ")


def _choices(item: Any, context: Any) -> str:
    if item["loc"] == ("schema_version",):
        return f"this qtrade reads format {context['expected']}; a newer one may have written the file"
    told = context.get("expected") or context.get("expected_tags", "")
    allowed = [name.strip(" '") for name in told.replace(" or ", ", ").split(",")]
    return f"must be {_one_of(allowed)}{_meant(_tag_of(item), allowed)}"


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
