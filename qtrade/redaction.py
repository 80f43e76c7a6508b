"""Hide secrets: every value that was read as one is replaced before a line is shown, logged or journalled."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

_MINIMUM = 4
# Parts of a value, and of its base64 within other base64, say nothing of it when they are shorter.
_MINIMUM_PART = 12
_ESCAPE = re.compile(r"%[0-9A-F]{2}|\\u[0-9a-f]{4}")
_hidden: set[str] = set()
_longest_first: list[tuple[str, ...]] = [()]
_adding = threading.Lock()


def register_secret(value: str) -> None:
    """Make `redact` hide `value` from now on: as it is, line by line, in base64, and as JSON and URLs escape it.

    Values under four characters are left out: hiding them would hide half of every text and protect nothing.
    """
    stripped = value.strip()
    with _adding:
        for one in {value, stripped, *_lines(value)}:
            if len(one) >= _MINIMUM:
                _hidden.update(spellings(one))
        # Other threads redact meanwhile: they see the old ones or the new ones, whole.
        _longest_first[0] = tuple(sorted(_hidden, key=len, reverse=True))


def redact(text: str) -> str:
    """Return `text` with every registered secret replaced by `***`."""
    for secret in _longest_first[0]:
        if secret in text:
            text = text.replace(secret, "***")
    return text


def spellings(value: str) -> frozenset[str]:
    """Return how programs write a value: raw, JSON, URL, and base64, by itself and within what else is encoded with it."""
    found = {value}
    for is_ascii in (True, False):
        escaped = json.dumps(value, ensure_ascii=is_ascii)[1:-1]
        found |= {escaped, escaped.replace("/", "\\/")}
    found |= {quote(value, safe=""), quote(value), quote_plus(value)}
    found |= {_ESCAPE.sub(lambda one: one[0].swapcase(), one) for one in tuple(found)}
    content = value.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(content).decode()
        found |= {encoded, encoded.rstrip("=")}
        found |= {part for part in _within(content, encode) if len(part) >= _MINIMUM_PART}
    return frozenset(found)


def _lines(value: str) -> Iterator[str]:
    """Yield the lines of a value of several, such as a key in PEM: output is redacted line by line."""
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= _MINIMUM_PART and not line.startswith("-----"))


def _within(content: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """Yield what base64 makes of the content behind one and two other bytes, such as a name and a colon, without what these decide."""
    for before in (1, 2):
        encoded = encode(b"\0" * before + content).decode()
        usable = (before + len(content)) // 3 * 4
        yield encoded[before + 1 : usable]
    yield encode(content).decode()[: len(content) // 3 * 4]
