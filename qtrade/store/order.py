"""The order of versions: natural, with pre-releases (0.1.0-rc1, 0.1.0~rc1) before their release."""

import re

_WORD = re.compile(r"~|-|\d+|[^\d~-]+")
_TILDE, _DASH, _END, _NUMBER, _TEXT = range(5)


def version_order(version: str) -> list[tuple[int, int, str]]:
    """Return a key for `sorted`: numbers by value, and what follows `-` or `~` before what ends there."""
    return [*(_rank(word) for word in _WORD.findall(version)), (_END, 0, "")]


def _rank(word: str) -> tuple[int, int, str]:
    if word == "~":
        return (_TILDE, 0, "")
    if word == "-":
        return (_DASH, 0, "")
    return (_NUMBER, int(word), "") if word.isdecimal() else (_TEXT, 0, word)
