"""Reads the fields of a job strictly: what does not fit is an `AgentError` that names field, what was found and what is allowed."""

import base64
import binascii
import re
from typing import Any, Dict, List, Optional

from .errors import AgentError
from .imagelist import is_digest


def invalid_field(name: str, found: Any, allowed: str) -> AgentError:
    """Return the error for a field; what a secret holds is never shown."""
    shown = "hidden" if name in ("secret", "secrets", "value") else repr(found)[:80]
    return AgentError("job-invalid", f"{name} is {shown}, allowed is {allowed}")


def read_object(fields: Dict[str, Any], name: str) -> Dict[str, Any]:
    """Return an object, an empty one where there is none."""
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise invalid_field(name, value, "an object")
    return value


def read_objects(fields: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    """Return a list of objects, an empty one where there is none."""
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise invalid_field(name, value, "a list of objects")
    return value


def read_text(fields: Dict[str, Any], name: str, default: Optional[str] = None) -> str:
    """Return a text."""
    value = fields.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise invalid_field(name, value, "text")
    return value


def read_number(fields: Dict[str, Any], name: str) -> int:
    """Return a whole number, zero or more."""
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise invalid_field(name, value, "a whole number")
    return value


def read_flag(fields: Dict[str, Any], name: str, *, default: bool) -> bool:
    """Return true or false."""
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise invalid_field(name, value, "true or false")
    return value


def read_digest(fields: Dict[str, Any], name: str) -> str:
    """Return a SHA-256 in hex."""
    value = read_text(fields, name)
    if not is_digest(value):
        raise invalid_field(name, value, "64 lower-case hex digits")
    return value


def read_matching(fields: Dict[str, Any], name: str, pattern: re.Pattern[str], allowed: str) -> str:
    """Return a text of the given form."""
    value = read_text(fields, name)
    if pattern.match(value) is None:
        raise invalid_field(name, value, allowed)
    return value


def read_url(fields: Dict[str, Any], name: str) -> str:
    """Return an http or https address without a slash at its end; empty where there is none."""
    value = read_text(fields, name, default="")
    if value and not value.startswith(("http://", "https://")):
        raise invalid_field(name, value, "an http or https address")
    return value.rstrip("/")


def read_bytes(fields: Dict[str, Any], name: str) -> bytes:
    """Return the bytes that a field has as base64."""
    try:
        return base64.b64decode(read_text(fields, name), validate=True)
    except (binascii.Error, ValueError):
        raise AgentError("job-invalid", f"{name} is not base64") from None
