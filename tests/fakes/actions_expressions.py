"""Expressions of GitHub Actions, as far as our workflows use them: contexts, comparisons, `&&`, `||`, `!`, functions, text in quotes."""

import json
import re
from collections.abc import Callable
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w.-]*)|(?P<sign>==|!=|&&|\|\||[!(),]))")
_HOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STATUS = ("always", "success", "failure", "cancelled")
Functions = dict[str, Callable[..., Any]]


def evaluate(text: str, contexts: dict[str, Any], functions: Functions) -> Any:
    """Return the value of an expression. Unknown properties are empty, as at GitHub; unknown contexts and functions are errors here."""
    parser = _Parser(_tokens(text), contexts, functions)
    value = parser.either()
    assert not parser.tokens, f"{text!r}: {parser.tokens} is left over"
    return value


def fill(value: Any, contexts: dict[str, Any], functions: Functions) -> str:
    """Return a text with its `${{ }}` evaluated, as GitHub gives it to a program."""
    return _HOLE.sub(lambda hole: as_text(evaluate(hole[1], contexts, functions)), as_text(value))


def holds(condition: Any, contexts: dict[str, Any], functions: Functions) -> bool:
    """Return whether an `if` holds; one that asks for no status means `success() && …`."""
    text = str(condition).strip()
    text = text[3:-2] if text.startswith("${{") else text
    asks = any(f"{name}(" in text for name in STATUS)
    return bool(evaluate(text, contexts, functions)) and (asks or functions["success"]())


def as_text(value: Any) -> str:
    """Return what GitHub writes for a value."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def standard_functions(status: dict[str, bool], hash_files: str) -> Functions:
    """Return the functions: `status` says what success() and failure() are."""
    return {
        "toJSON": lambda value: json.dumps(value, indent=2),
        "fromJSON": json.loads,
        "hashFiles": lambda *_: hash_files,
        "always": lambda: True,
        "success": lambda: status["success"],
        "failure": lambda: status["failure"],
    }


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, f"{text!r}: cannot read {text[at:]!r}"
        found.append((str(match.lastgroup), match[0].strip()))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], contexts: dict[str, Any], functions: Functions) -> None:
        self.tokens, self.contexts, self.functions = tokens, contexts, functions

    def either(self) -> Any:
        left = self.both()
        while self._take("||"):
            right = self.both()
            left = left or right
        return left

    def both(self) -> Any:
        left = self.compared()
        while self._take("&&"):
            right = self.compared()
            left = left and right
        return left

    def compared(self) -> Any:
        left = self.single()
        for sign in ("==", "!="):
            if self._take(sign):
                right = self.single()
                return (as_text(left) == as_text(right)) is (sign == "==")
        return left

    def single(self) -> Any:
        if self._take("!"):
            return not self.single()
        if self._take("("):
            value = self.either()
            assert self._take(")")
            return value
        kind, word = self.tokens.pop(0)
        if kind == "text":
            return word[1:-1].replace("''", "'")
        assert kind == "name", word
        return self._call(word) if self._take("(") else self._look_up(word)

    def _call(self, name: str) -> Any:
        arguments = []
        while not self._take(")"):
            arguments.append(self.either())
            self._take(",")
        return self.functions[name](*arguments)

    def _look_up(self, path: str) -> Any:
        first, *rest = path.split(".")
        value = self.contexts[first]
        for part in rest:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _take(self, sign: str) -> bool:
        if self.tokens and self.tokens[0] == ("sign", sign):
            self.tokens.pop(0)
            return True
        return False
