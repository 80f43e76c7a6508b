"""Hide secrets: every value that was read as one is replaced before a line is shown, logged or journalled."""

import base64
import json
from urllib.parse import quote

_MINIMUM = 4
_hidden: set[str] = set()


def register_secret(value: str) -> None:
    """Make `redact` hide `value` from now on: as it is, in base64, and as JSON and URLs escape it.

    Values under four characters are left out: hiding them would hide half of every text and protect nothing.
    """
    if len(value) < _MINIMUM:
        return
    encoded = base64.b64encode(value.encode()).decode()
    _hidden.update({value, encoded, encoded.rstrip("="), json.dumps(value)[1:-1], quote(value, safe="")})


def redact(text: str) -> str:
    """Return `text` with every registered secret replaced by `***`."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
