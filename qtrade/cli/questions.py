"""Questions to a person at a terminal; where nobody is there, defaults answer, and an error names the option that is missing."""

import sys
from collections.abc import Sequence

import typer

from qtrade.errors import UsageError


class Questions:
    """Asks on stderr. `defaults_only` asks nobody."""

    def __init__(self, *, defaults_only: bool) -> None:
        self._asks = sys.stdin.isatty() and not defaults_only

    def __call__(self, question: str, *, option: str, default: str | None = None, among: Sequence[str] = ()) -> str:
        """Return the answer, asked again until it is one of `among` where that is given. Raises `UsageError`."""
        if not self._asks:
            if default is None:
                raise UsageError(f"{question}: nobody can be asked", resolution=f"add {option}")
            return default
        shown = f"{question} ({', '.join(among)})" if among else question
        while True:
            answer = str(typer.prompt(shown, default=default, err=True)).strip()
            if not among or answer in among:
                return answer
            typer.echo(f"{answer!r:.80} is none of them", err=True)
