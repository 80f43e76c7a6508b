"""A machine's serial console: a file that grows across resets, read from offsets so that old is never taken for new."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qtrade.errors import HostError

_POLL_S = 0.2
_TAIL_CHARS = 2000
# Escape sequences (colours, cursor moves, titles) and the control bytes that terminals eat.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[ -/]*[0-~])|[\x00\x07\x08\r]")


@dataclass(frozen=True)
class ConsoleMatch:
    """Text that was found, and the offset in bytes of what came after it was seen."""

    text: str
    end_offset: int


class Console:
    """The console log at `path`, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def offset(self) -> int:
        """Return the size so far in bytes: the start of what is yet to come."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self, offset: int = 0) -> str:
        """Return the text from `offset` on, without escape sequences."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as log:
            log.seek(offset)
            return clean_text(log.read())

    def wait_for(
        self,
        pattern: str,
        *,
        offset: int = 0,
        timeout_s: float,
        fails: str | None = None,
        is_alive: Callable[[], bool] = lambda: True,
    ) -> ConsoleMatch:
        """Wait until the regular expression `pattern` occurs after `offset`.

        Raises `HostError` with the console's tail when time is over, `fails` occurs first or the machine ends.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            was_alive = is_alive()
            end = self.offset()
            text = self.read(offset)
            found = re.search(pattern, text)
            if found:
                return ConsoleMatch(found.group(0), end)
            bad = re.search(fails, text) if fails else None
            if bad:
                raise HostError(f"the console says {bad.group(0)!r}", details=text[-_TAIL_CHARS:])
            if not was_alive:
                raise HostError(f"the machine ended before it said {pattern!r}", details=text[-_TAIL_CHARS:])
            if time.monotonic() > deadline:
                raise HostError(
                    f"the console did not say {pattern!r} in {timeout_s:.0f} s", details=text[-_TAIL_CHARS:]
                )
            time.sleep(_POLL_S)


def clean_text(raw: bytes) -> str:
    """Return console bytes as text, without escape sequences and carriage returns."""
    return _ESCAPES.sub("", raw.decode(errors="replace"))
