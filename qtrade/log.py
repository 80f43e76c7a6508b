"""Lines for machines on stderr: one JSON object each, where QTRADE_LOG is `json`. Redacted like all that people see."""

import json
import os
import sys
import time
from typing import Literal

from qtrade.errors import BadInput, choose_from
from qtrade.redaction import redact

VARIABLE = "QTRADE_LOG"
FORMATS = ("text", "json")
Level = Literal["info", "warning", "error"]


def log_format() -> str:
    """Return `text` or `json`; anything else counts as text, since `check_format` has refused it."""
    return "json" if os.environ.get(VARIABLE) == "json" else "text"


def check_format() -> None:
    """Raise `BadInput` for a QTRADE_LOG that is no format."""
    named = os.environ.get(VARIABLE) or FORMATS[0]
    if named not in FORMATS:
        raise BadInput(f"{VARIABLE} is {named!r:.80}", resolution=choose_from(named, FORMATS))


def write_line(level: Level, **fields: str | float | None) -> None:
    """Write one object: `time` (UTC), `level`, and the fields that are not None."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
    document = {"time": stamp, "level": level, **{name: value for name, value in fields.items() if value is not None}}
    sys.stderr.write(redact(json.dumps(document, ensure_ascii=False)) + "\n")
    sys.stderr.flush()
