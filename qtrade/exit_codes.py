"""docs/exit-codes.md, made of the tree of errors. `python -m qtrade.exit_codes` writes it; `make docs-tables` calls it."""

from pathlib import Path

from qtrade.errors import QtradeError

PAGE = Path(__file__).resolve().parent.parent / "docs/exit-codes.md"
_HEAD = """\
<!-- Made by `make docs-tables` of qtrade/errors.py. Change that. -->
# Exit codes

One code per class of error, of every command. stderr says what happened, stdout stays empty then (but for commands that compare or check
many things: they print what they found first). With `--log-format json` the error is one JSON object with `error` (the class),
`exit_code`, `brief`, `details` and `resolution`.

| code | class | when | to mend it, where the error says nothing better |
| ---: | --- | --- | --- |
| 0 | | it worked | |
"""
_TAIL = """\
| 130 | | Ctrl-C; the same command goes on where this one stopped | |

Four things more:

* `qtrade drift` ends with 2 when a host has drifted, as a wrong command line does; with `--json`, `drifted` tells the two apart.
* `qtrade judge` ends with 10 when a gate fails, and with 11 when none fails but one is inconclusive.
* A command on many hosts or secrets ends with the code that all failures share, else with 1.
* `qtrade ssh`, `logs` and `console` end with the code of what ran there, `qtrade bake shell` with that of its shell.
"""


def render_page() -> str:
    """Return the page."""
    classes = sorted(_family(QtradeError), key=lambda one: one.exit_code)
    rows = [f"| {one.exit_code} | `{one.__name__}` | {_sentence(one.__doc__)} | {one.usual_cure} |" for one in classes]
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


def _family(cls: type[QtradeError]) -> list[type[QtradeError]]:
    """Return the classes of qtrade/errors.py; others, below them, have their codes."""
    own = [one for one in cls.__subclasses__() if one.__module__ == cls.__module__]
    return [cls, *own]


def _sentence(text: str | None) -> str:
    first = (text or "").strip().splitlines()[0]
    return "something failed that has no class of its own" if first.startswith("An error") else first.rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(render_page())
